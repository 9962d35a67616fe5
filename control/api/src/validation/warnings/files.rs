//! Files that volumes put in each other's place.

use super::Told;
use crate::validation::place::Place;

/// A path of a file in a volume, and where it comes from.
#[derive(Clone, Copy)]
struct File<'a> {
    path: &'a str,
    source: Source<'a>,
}

/// A sort of source, empty where there is but one, and its name, if it has any.
#[derive(Clone, Copy)]
struct Source<'a>(&'static str, Option<&'a str>);

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Some(name) => write!(f, "{} {name:?}", self.0),
            None => f.write_str(self.0),
        }
    }
}

impl File<'_> {
    fn shown(&self) -> String {
        if self.source.0.is_empty() {
            format!("{:?}", self.path)
        } else {
            format!("{:?} ({})", self.path, self.source)
        }
    }

    fn hides(&self, other: &Self) -> bool {
        let is_below = |one: &str, two: &str| {
            one.strip_prefix(two).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let (one, two) = (self.path, other.path);
        !one.is_empty() && !two.is_empty() && (is_below(one, two) || is_below(two, one))
    }
}

fn files<'a>(items: &Place<'a>, source: Source<'a>) -> impl Iterator<Item = File<'a>> + use<'a> {
    items.items().map(move |item| File { path: item.get("path").text().trim_end_matches('/'), source })
}

/// Volumes with files in each other's place.
pub(super) fn overlaps(volumes: &Place<'_>, told: &mut Told) {
    for volume in volumes.items() {
        let name = volume.get("name").text();
        let mut tell = |what: Source<'_>, files: &mut dyn Iterator<Item = File<'_>>| {
            let files: Vec<File<'_>> = files.collect();
            for (index, file) in files.iter().enumerate() {
                for other in files.iter().take(index).filter(|other| other.hides(file)) {
                    told.push(format!(
                        "volume {name:?} ({what}): overlapping paths: {} with {}",
                        file.shown(),
                        other.shown()
                    ));
                }
            }
        };
        let (map, secret) = (volume.get("configMap"), volume.get("secret"));
        let nowhere = Source("", None);
        let named = Source("ConfigMap", Some(map.get("name").text()));
        tell(named, &mut files(&map.get("items"), nowhere));
        let named = Source("Secret", Some(secret.get("secretName").text()));
        tell(named, &mut files(&secret.get("items"), nowhere));
        let downward = volume.get("downwardAPI").get("items");
        tell(Source("DownwardAPI", None), &mut files(&downward, nowhere));
        let sources = volume.get("projected").each("sources");
        tell(Source("Projected", None), &mut sources.flat_map(|source| projected(&source)));
        for source in volume.get("projected").each("sources") {
            if !source.is_full() {
                told.push(format!("volume {name:?} (Projected) has no sources provided"));
            }
        }
    }
}

fn projected<'a>(source: &Place<'a>) -> Vec<File<'a>> {
    let named = |sort, member| {
        let place = source.get(member);
        files(&place.get("items"), Source(sort, Some(place.get("name").text())))
    };
    let one = |place: Place<'a>, source| {
        let path = place.text().trim_end_matches('/');
        (!path.is_empty()).then_some(File { path, source })
    };
    let mut all: Vec<File<'a>> = named("ConfigMap", "configMap").collect();
    all.extend(named("Secret", "secret"));
    all.extend(files(&source.get("downwardAPI").get("items"), Source("DownwardAPI", None)));
    let token = source.get("serviceAccountToken").get("path");
    all.extend(one(token, Source("ServiceAccountToken", None)));
    let bundle = source.get("clusterTrustBundle");
    let name = if bundle.get("name").is_set() { bundle.get("name") } else { bundle.get("signerName") };
    all.extend(one(bundle.get("path"), Source("ClusterTrustBundle", Some(name.text()))));
    let certificate = source.get("podCertificate");
    for (member, shown) in [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ] {
        all.extend(one(certificate.get(member), Source(shown, None)));
    }
    all
}
