//! Services, endpoints, networking.k8s.io.

use serde_json::{Value, json};

use super::{check, check_update, meta};

#[test]
fn services_that_break_rules_are_refused() {
    let sound =
        json!({ "metadata": meta(), "spec": { "selector": { "a": "b" }, "ports": [{ "port": 80 }] } });
    let spec = |spec: Value| json!({ "spec": spec });
    check(
        "services",
        sound.clone(),
        &[
            (json!({ "metadata": { "name": "1a" } }), &[]),
            (
                spec(json!({ "type": "LoadBalancer", "clusterIP": "None" })),
                &[
                    "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services",
                ],
            ),
            (
                spec(json!({ "type": "ExternalName", "externalName": "A" })),
                &[
                    "spec.externalName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case \
                   alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                   'example.com', regex used for validation is \
                   '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ],
            ),
            (
                spec(json!({ "loadBalancerClass": "x.io/y" })),
                &["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
            ),
            (
                spec(json!({ "externalTrafficPolicy": "Local" })),
                &[
                    "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                ],
            ),
            (
                spec(json!({ "type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1/8"] })),
                &[
                    "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix \
                   length",
                ],
            ),
            (
                spec(json!({ "clusterIP": "010.0.0.1", "clusterIPs": ["010.0.0.1"] })),
                &["spec.clusterIPs[0]: Invalid value: \"010.0.0.1\": must not have leading 0s"],
            ),
            (
                spec(json!({ "clusterIP": "fd00::1", "clusterIPs": ["fd00::1"], "ipFamilies": ["IPv4"] })),
                &[
                    "spec.clusterIPs[0]: Invalid value: \"fd00::1\": expected an IPv4 value as indicated by `ipFamilies[0]`",
                ],
            ),
            (
                spec(json!({ "trafficDistribution": "x" })),
                &[
                    "spec.trafficDistribution: Unsupported value: \"x\": supported values: \"PreferClose\", \"PreferSameZone\", \
                   \"PreferSameNode\"",
                ],
            ),
            (spec(json!({ "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 5 } } })), &[]),
            (
                spec(json!({ "ports": [{ "port": 80, "name": "a" }, { "port": 80, "name": "b" }] })),
                &[
                    "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\
                     \"TargetPort\":0,\"NodePort\":0}",
                ],
            ),
        ],
    );
    let mut given = sound;
    given["spec"]["clusterIP"] = json!("10.0.0.1");
    given["spec"]["clusterIPs"] = json!(["10.0.0.1"]);
    given["spec"]["ipFamilies"] = json!(["IPv4"]);
    given["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    check_update(
        "services",
        given,
        &[
            (spec(json!({ "ports": [{ "port": 81 }] })), &[]),
            (
                spec(json!({ "clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"] })),
                &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
            ),
            (
                spec(json!({ "ipFamilies": ["IPv6"] })),
                &[
                    "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set",
                    "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
                ],
            ),
        ],
    );
}

#[test]
fn endpoints_that_break_rules_are_refused() {
    let subset = |subset: Value| json!({ "subsets": [subset] });
    check(
        "endpoints",
        json!({ "metadata": meta() }),
        &[
            (
                subset(json!({})),
                &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
            ),
            (
                subset(json!({ "addresses": [{ "ip": "169.254.1.1" }] })),
                &[
                    "subsets[0].addresses[0].ip: Invalid value: \"169.254.1.1\": may not be in the link-local range \
                   (169.254.0.0/16, fe80::/10)",
                ],
            ),
        ],
    );
    let slice =
        json!({ "metadata": meta(), "addressType": "IPv4", "endpoints": [{ "addresses": ["10.0.0.1"] }] });
    check(
        "discovery.k8s.io/endpointslices",
        slice.clone(),
        &[
            (
                json!({ "endpoints": [{ "addresses": [] }] }),
                &["endpoints[0].addresses: Required value: must contain at least 1 address"],
            ),
            (
                json!({ "addressType": "IPv6" }),
                &["endpoints[0].addresses: Invalid value: \"10.0.0.1\": must be an IPv6 address"],
            ),
            (
                json!({ "addressType": "FQDN", "endpoints": [{ "addresses": ["host"] }] }),
                &[
                    "endpoints[0].addresses[0]: Invalid value: \"host\": should be a domain with at least two segments separated \
                   by dots",
                ],
            ),
            (
                json!({ "ports": [{ "name": "a" }, { "name": "a" }] }),
                &["ports[1].name: Duplicate value: \"a\""],
            ),
        ],
    );
    check_update(
        "discovery.k8s.io/endpointslices",
        slice,
        &[(
            json!({ "addressType": "IPv6", "endpoints": [] }),
            &["addressType: Invalid value: \"IPv6\": field is immutable"],
        )],
    );
}

#[test]
fn network_policies_that_break_rules_are_refused() {
    let rule = |rule: Value| json!({ "spec": { "ingress": [rule] } });
    check(
        "networking.k8s.io/networkpolicies",
        json!({ "metadata": meta(), "spec": { "podSelector": {} } }),
        &[
            (
                rule(json!({ "from": [{}] })),
                &["spec.ingress[0].from[0]: Required value: must specify a peer"],
            ),
            (
                rule(json!({ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"] } }] })),
                &[
                    "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                ],
            ),
            (
                rule(json!({ "ports": [{ "port": 80, "endPort": 70 }] })),
                &[
                    "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
                ],
            ),
            (
                rule(json!({ "ports": [{ "endPort": 70 }] })),
                &[
                    "spec.ingress[0].ports[0].endPort: Invalid value: 70: may not be specified when `port` is not specified",
                ],
            ),
            (
                json!({ "spec": { "policyTypes": ["X"] } }),
                &["spec.policyTypes[0]: Unsupported value: \"X\": supported values: \"Ingress\", \"Egress\""],
            ),
        ],
    );
}

#[test]
fn ingresses_that_break_rules_are_refused() {
    let path = |path: Value| json!({ "spec": { "rules": [{ "http": { "paths": [path] } }] } });
    let backend = json!({ "service": { "name": "s", "port": { "number": 80 } } });
    check(
        "networking.k8s.io/ingresses",
        json!({ "metadata": meta(), "spec": { "defaultBackend": backend } }),
        &[
            (
                json!({ "spec": { "defaultBackend": null } }),
                &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
            ),
            (
                path(json!({ "path": "/a//b", "pathType": "Prefix", "backend": backend })),
                &["spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'"],
            ),
            (
                path(json!({ "path": "/", "pathType": "Exact", "backend": { "service": { "name": "s" } } })),
                &["spec.rules[0].http.paths[0].backend: Required value: port name or number is required"],
            ),
            (
                json!({ "spec": { "rules": [{ "host": "10.0.0.1" }] } }),
                &["spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"],
            ),
            (
                json!({ "metadata": { "annotations": { "kubernetes.io/ingress.class": "x" } }, "spec": { "ingressClassName": "y" } }),
                &[
                    "annotations.kubernetes.io/ingress.class: Invalid value: \"x\": must match `ingressClassName` when both are \
                   specified",
                ],
            ),
        ],
    );
    let class = json!({ "metadata": { "name": "a" }, "spec": { "controller": "x.io/y" } });
    check(
        "networking.k8s.io/ingressclasses",
        class.clone(),
        &[
            (
                json!({ "spec": { "controller": "x" } }),
                &[
                    "spec.controller: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                ],
            ),
            (
                json!({ "spec": { "parameters": { "kind": "K", "name": "n", "scope": "Namespace" } } }),
                &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
            ),
        ],
    );
    check_update(
        "networking.k8s.io/ingressclasses",
        class,
        &[(
            json!({ "spec": { "controller": "x.io/z" } }),
            &["spec.controller: Invalid value: \"x.io/z\": field is immutable"],
        )],
    );
}

#[test]
fn service_networks_and_addresses_that_break_rules_are_refused() {
    let cidr = json!({ "metadata": { "name": "a" }, "spec": { "cidrs": ["10.0.0.0/24"] } });
    let cidrs = |cidrs: Value| json!({ "spec": { "cidrs": cidrs } });
    check(
        "networking.k8s.io/servicecidrs",
        cidr.clone(),
        &[
            (cidrs(json!([])), &["spec.cidrs: Required value: at least one CIDR required"]),
            (
                cidrs(json!(["10.0.0.0/24", "10.1.0.0/24"])),
                &[
                    "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one IP for each IP \
                   family, i.e 192.168.0.0/24 and 2001:db8::/64",
                ],
            ),
            (
                cidrs(json!(["10.0.0.1/24"])),
                &[
                    "spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length",
                ],
            ),
        ],
    );
    check_update(
        "networking.k8s.io/servicecidrs",
        cidr,
        &[
            (cidrs(json!(["10.0.0.0/24", "fd00::/112"])), &[]),
            (
                cidrs(json!(["10.1.0.0/24"])),
                &["spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable"],
            ),
            (cidrs(json!([])), &["spec.cidrs: Invalid value: []: field is immutable"]),
        ],
    );
    let parent = json!({ "resource": "services", "namespace": "n", "name": "s" });
    let address = json!({ "metadata": { "name": "fd00::1" }, "spec": { "parentRef": parent } });
    check(
        "networking.k8s.io/ipaddresses",
        address.clone(),
        &[
            (
                json!({ "metadata": { "name": "FD00::1" } }),
                &["metadata.name: Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")"],
            ),
            (json!({ "spec": { "parentRef": null } }), &["spec.parentRef: Required value"]),
            (json!({ "spec": { "parentRef": { "name": "" } } }), &["spec.parentRef.name: Required value"]),
        ],
    );
    let moved = json!({ "spec": { "parentRef": { "name": "t" } } });
    check_update(
        "networking.k8s.io/ipaddresses",
        address,
        &[(
            moved,
            &[
                "spec.parentRef: Invalid value: {\"name\":\"t\",\"namespace\":\"n\",\"resource\":\"services\"}: field is immutable",
            ],
        )],
    );
}
