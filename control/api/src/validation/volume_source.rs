//! Rules of what a volume comes from, in a pod or as a PersistentVolume.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::{claim, environment, meta, names, persistent_volume, selector, storage};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const PARTITION: &str = "must be between 1 and 255, inclusive";
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const KEY_TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];

/// Members that must be there.
fn needed(source: &Place<'_>, names: &[&str], errors: &mut Errors) {
    for name in names {
        if !source.get(name).is_full() {
            source.get(name).required("", errors);
        }
    }
}

pub(super) fn no_backsteps(path: &Place<'_>, errors: &mut Errors) {
    if path.text().split('/').any(|part| part == "..") {
        path.invalid("must not contain '..'", errors);
    }
}

/// A path below something.
pub(super) fn descending(path: &Place<'_>, errors: &mut Errors) {
    if path.text().starts_with('/') {
        path.invalid("must be a relative path", errors);
    }
    no_backsteps(path, errors);
}

/// A path below something, of a name that the node agent does not use itself.
fn not_reserved(path: &Place<'_>, errors: &mut Errors) {
    descending(path, errors);
    if path.text().starts_with("..") && !path.text().starts_with("../") {
        path.invalid("must not start with '..'", errors);
    }
}

/// A disk that Azure manages has another address than one in a blob.
fn azure_disk(source: &Place<'_>, errors: &mut Errors) {
    needed(source, &["diskName", "diskURI"], errors);
    source.get("cachingMode").maybe_one_of(&["None", "ReadOnly", "ReadWrite"], errors);
    let (kind, address) = (source.get("kind"), source.get("diskURI"));
    kind.maybe_one_of(&["Dedicated", "Managed", "Shared"], errors);
    let (start, form) = match kind.text() {
        "Managed" => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"),
    };
    if kind.is_set() && !address.text().starts_with(start) {
        address.one_of(&[form], errors);
    }
}

fn mode(mode: &Place<'_>, errors: &mut Errors) {
    if mode.number().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        mode.invalid(MODE, errors);
    }
}

fn partition(source: &Place<'_>, errors: &mut Errors) {
    let place = source.get("partition");
    if place.number().is_some_and(|number| !(0..=255).contains(&number)) {
        place.invalid(PARTITION, errors);
    }
}

fn keys(source: &Place<'_>, errors: &mut Errors) {
    for item in source.each("items") {
        needed(&item, &["key", "path"], errors);
        not_reserved(&item.get("path"), errors);
        mode(&item.get("mode"), errors);
    }
}

/// What sources in pods and in PersistentVolumes share.
fn shared(kind: &str, source: &Place<'_>, errors: &mut Errors) {
    match kind {
        "hostPath" => {
            needed(source, &["path"], errors);
            no_backsteps(&source.get("path"), errors);
            source.get("type").maybe_one_of(&HOST_PATH_TYPES, errors);
        }
        "nfs" => {
            needed(source, &["server", "path"], errors);
            if !source.get("path").text().starts_with('/') {
                source.get("path").invalid("must be an absolute path", errors);
            }
        }
        "gcePersistentDisk" => {
            // Upstream calls it otherwise.
            let path = source.path.replace("gcePersistentDisk", "persistentDisk");
            let source = Place::new(path, source.value);
            needed(&source, &["pdName"], errors);
            partition(&source, errors);
        }
        "awsElasticBlockStore" => {
            needed(source, &["volumeID"], errors);
            partition(source, errors);
        }
        "glusterfs" => needed(source, &["endpoints", "path"], errors),
        "rbd" => needed(source, &["monitors", "image"], errors),
        "cephfs" => needed(source, &["monitors"], errors),
        "cinder" | "portworxVolume" => needed(source, &["volumeID"], errors),
        "iscsi" => iscsi(source, errors),
        "flexVolume" => needed(source, &["driver"], errors),
        "azureFile" => needed(source, &["secretName", "shareName"], errors),
        "azureDisk" => azure_disk(source, errors),
        "vsphereVolume" => needed(source, &["volumePath"], errors),
        "photonPersistentDisk" => needed(source, &["pdID"], errors),
        "quobyte" => quobyte(source, errors),
        "storageos" => {
            source.get("volumeName").must(names::dns_label, errors);
            source.get("volumeNamespace").judge_full(names::dns_label, errors);
            let secret = source.get("secretRef");
            if secret.is_set() && secret.get("name").text().is_empty() {
                secret.get("name").required("", errors);
            }
        }
        "flocker" => flocker(source, errors),
        "scaleIO" => needed(source, &["gateway", "system", "volumeName"], errors),
        "fc" => fibre_channel(source, errors),
        _ => {}
    }
}

fn quobyte(source: &Place<'_>, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let (registry, tenant) = (source.get("registry"), source.get("tenant"));
    if registry.text().is_empty() {
        registry.required(PAIRS, errors);
    } else if tenant.text().len() > 64 {
        tenant.required("must be a UUID and may not exceed a length of 64 characters", errors);
    } else {
        // An address with colons of its own is in brackets.
        let is_pair = |pair: &str| match pair.rsplit_once(':') {
            Some((host, _)) if host.starts_with('[') => host.ends_with(']'),
            Some((host, _)) => !host.contains([':', '[', ']']),
            None => false,
        };
        for _ in registry.text().split(',').filter(|pair| !is_pair(pair)) {
            registry.invalid(PAIRS, errors);
        }
    }
    needed(source, &["volume"], errors);
}

fn flocker(source: &Place<'_>, errors: &mut Errors) {
    let (name, uuid) = (source.get("datasetName"), source.get("datasetUUID"));
    match (name.is_full(), uuid.is_full()) {
        (false, false) => source.required("one of datasetName and datasetUUID is required", errors),
        (true, true) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(FieldError::invalid(&source.path, "resource", why));
        }
        _ => {}
    }
    if name.text().contains('/') {
        name.invalid("must not contain '/'", errors);
    }
}

fn fibre_channel(source: &Place<'_>, errors: &mut Errors) {
    let (targets, ids, lun) = (source.get("targetWWNs"), source.get("wwids"), source.get("lun"));
    match (targets.count() > 0, ids.count() > 0) {
        (false, false) => targets.required("must specify either targetWWNs or wwids, but not both", errors),
        (true, true) => targets.invalid("targetWWNs and wwids can not be specified simultaneously", errors),
        _ => {}
    }
    if targets.count() > 0 {
        match lun.number() {
            None => lun.required("lun is required if targetWWNs is specified", errors),
            Some(0..=255) => {}
            Some(_) => lun.invalid("must be between 0 and 255, inclusive", errors),
        }
    }
}

/// The source of a PersistentVolume.
pub(super) fn persistent(kind: &str, source: &Place<'_>, _name: &str, errors: &mut Errors) {
    match kind {
        "csi" => persistent_volume::csi(source, errors),
        "local" => {
            needed(source, &["path"], errors);
            no_backsteps(&source.get("path"), errors);
        }
        _ => shared(kind, source, errors),
    }
}

/// The source of a pod's volume.
pub(super) fn in_pod(kind: &str, source: &Place<'_>, errors: &mut Errors) {
    match kind {
        "emptyDir" => {
            let limit = source.get("sizeLimit");
            if limit.quantity().is_some_and(|limit| limit.is_negative()) {
                limit.forbidden("SizeLimit field must be a valid resource quantity", errors);
            }
        }
        "secret" => {
            needed(source, &["secretName"], errors);
            mode(&source.get("defaultMode"), errors);
            keys(source, errors);
        }
        "configMap" => {
            needed(source, &["name"], errors);
            mode(&source.get("defaultMode"), errors);
            keys(source, errors);
        }
        "persistentVolumeClaim" => needed(source, &["claimName"], errors),
        "gitRepo" => {
            needed(source, &["repository"], errors);
            descending(&source.get("directory"), errors);
        }
        "downwardAPI" => {
            mode(&source.get("defaultMode"), errors);
            source.each("items").for_each(|file| downward(&source.path, &file, errors));
        }
        "projected" => projected(source, errors),
        "csi" => {
            storage::driver_name(&source.get("driver"), errors);
            let secret = source.get("nodePublishSecretRef");
            if secret.is_set() && secret.get("name").text().is_empty() {
                secret.get("name").required("", errors);
            } else if secret.is_set() {
                // Upstream leaves the reference out of the path.
                Place::new(source.child("name"), secret.get("name").value)
                    .judge(names::dns_subdomain, errors);
            }
        }
        "ephemeral" => {
            let template = source.get("volumeClaimTemplate");
            if template.is_set() {
                let metadata = template.get("metadata");
                meta::annotations(&metadata.child("annotations"), metadata.value.get("annotations"), errors);
                meta::labels(&metadata.child("labels"), metadata.value.get("labels"), errors);
                claim::spec(&template.get("spec"), errors);
            } else {
                template.required("", errors);
            }
        }
        "image" => {
            needed(source, &["reference"], errors);
            source.get("pullPolicy").maybe_one_of(&["Always", "IfNotPresent", "Never"], errors);
        }
        _ => shared(kind, source, errors),
    }
}

fn iscsi(source: &Place<'_>, errors: &mut Errors) {
    needed(source, &["targetPortal", "iqn"], errors);
    let name = source.get("iqn");
    if name.is_full() {
        iscsi_name(&name, errors);
    }
    let unit = source.get("lun");
    if unit.number().is_some_and(|unit| !(0..=255).contains(&unit)) {
        unit.invalid("must be between 0 and 255, inclusive", errors);
    }
    let asks = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|name| source.value[*name] == true);
    if asks && !source.get("secretRef").is_set() {
        source.get("secretRef").required("", errors);
    }
    let initiator = source.get("initiatorName");
    if initiator.is_set() {
        iscsi_name(&Place::new(source.child("initiatorname"), initiator.value), errors);
    }
}

/// The name of a target or initiator (RFC 3720, 3.2.6).
fn iscsi_name(name: &Place<'_>, errors: &mut Errors) {
    static FORMS: LazyLock<[(&str, Regex); 3]> = LazyLock::new(|| {
        let form = |text: &str| Regex::new(text).expect("the expression is one");
        [
            ("iqn", form(r"iqn\.[0-9]{4}-[0-9]{2}\.([A-Za-z0-9.-]+)(:[^,;*&$|\s]+)$")),
            ("eui", form(r"^eui.[A-Za-z0-9]{16}$")),
            ("naa", form(r"^naa.[A-Za-z0-9]{32}$")),
        ]
    });
    match FORMS.iter().find(|(start, _)| name.text().starts_with(start)) {
        None => name.invalid("must be valid format starting with iqn, eui, or naa", errors),
        Some((_, form)) if !form.is_match(name.text()) => name.invalid("must be valid format", errors),
        Some(_) => {}
    }
}

/// A file of the downward API. Upstream names the volume, not the file.
fn downward(path: &str, file: &Place<'_>, errors: &mut Errors) {
    let file = Place::new(path, file.value);
    needed(&file, &["path"], errors);
    not_reserved(&file.get("path"), errors);
    let (field, resource) = (file.get("fieldRef"), file.get("resourceFieldRef"));
    if field.is_set() {
        environment::field_ref(&field, true, errors);
        if resource.is_set() {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.push(FieldError::invalid(&file.path, "resource", why));
        }
    } else if resource.is_set() {
        environment::resource_ref(&resource, true, errors);
    } else {
        file.required("one of fieldRef and resourceFieldRef is required", errors);
    }
    mode(&file.get("mode"), errors);
}

fn projected(volume: &Place<'_>, errors: &mut Errors) {
    mode(&volume.get("defaultMode"), errors);
    let mut paths = BTreeSet::new();
    let mut take = |path: &str, shown: &str, errors: &mut Errors| {
        if !path.is_empty() && !paths.insert(path.to_owned()) {
            errors.push(FieldError::invalid(&volume.path, shown, "conflicting duplicate paths"));
        }
    };
    for source in volume.each("sources") {
        let kinds: Vec<&str> =
            source.entries().filter(|(_, one)| one.is_set()).map(|(kind, _)| kind).collect();
        for kind in &kinds {
            let one = source.get(kind);
            match *kind {
                "secret" | "configMap" => {
                    needed(&one, &["name"], errors);
                    keys(&one, errors);
                    for item in one.each("items") {
                        take(item.get("path").text(), one.get("name").text(), errors);
                    }
                }
                "downwardAPI" => {
                    for file in one.each("items") {
                        downward(&one.path, &file, errors);
                        let path = file.get("path").text();
                        take(path, path, errors);
                    }
                }
                "serviceAccountToken" => {
                    token(&one, errors);
                    let path = Place::new(volume.child("path"), one.get("path").value);
                    if path.text().is_empty() {
                        path.required("", errors);
                    } else {
                        not_reserved(&path, errors);
                    }
                }
                "clusterTrustBundle" => {
                    trust_bundle(&one, errors);
                    take(one.get("path").text(), one.get("path").text(), errors);
                }
                "podCertificate" => {
                    certificate(&one, errors);
                    for name in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                        take(one.get(name).text(), one.get(name).text(), errors);
                    }
                }
                _ => {}
            }
        }
        if kinds.len() > 1 {
            source.forbidden("may not specify more than 1 volume type per source", errors);
        }
    }
}

fn token(token: &Place<'_>, errors: &mut Errors) {
    let seconds = token.get("expirationSeconds");
    match seconds.number() {
        Some(..600) => seconds.invalid("may not specify a duration less than 10 minutes", errors),
        Some(number) if number > 1 << 32 => {
            seconds.invalid("may not specify a duration larger than 2^32 seconds", errors);
        }
        _ => {}
    }
}

fn trust_bundle(bundle: &Place<'_>, errors: &mut Errors) {
    let (name, signer, labels) = (bundle.get("name"), bundle.get("signerName"), bundle.get("labelSelector"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => bundle.invalid("only one of name and signerName may be used", errors),
        (false, false) => bundle.required("either name or signerName must be specified", errors),
        (true, false) => {
            if name.text().is_empty() {
                name.required("must be a valid object name", errors);
            }
            if labels.is_set() {
                labels.invalid("labelSelector must be unset if name is specified", errors);
            }
        }
        (false, true) => {
            if signer.text().is_empty() {
                signer.required("must be a valid signer name", errors);
            }
            if labels.is_set() {
                selector::at(&labels, errors);
            }
        }
    }
    needed(bundle, &["path"], errors);
    not_reserved(&bundle.get("path"), errors);
}

fn certificate(certificate: &Place<'_>, errors: &mut Errors) {
    certificate.get("keyType").one_of(&KEY_TYPES, errors);
    let seconds = certificate.get("maxExpirationSeconds");
    if seconds.number().is_some_and(|number| number < 3600) {
        seconds.invalid("if provided, maxExpirationSeconds must be >= 3600", errors);
    }
    let paths = ["credentialBundlePath", "keyPath", "certificateChainPath"].map(|name| certificate.get(name));
    for path in paths.iter().filter(|path| path.is_full()) {
        not_reserved(path, errors);
    }
    if !paths.iter().any(Place::is_full) {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        certificate.required(why, errors);
    }
}
