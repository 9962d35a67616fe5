//! Bodies that were real once: objects as clients send them, with bytes changed, taken out, doubled and spliced in, through
//! every reader. None may panic; what is read must be a value that can be written and read again.
//!
//! The same mutations each time: a failure names the round that it came from.

use serde_json::{Value, json};

use crate::decode::{self, Encoding, FieldValidation};
use crate::registry::{Resource, registry};
use crate::{defaults, patch, protobuf, select, strategy, validation};

/// Mutations of each body, by each reader.
const ROUNDS: u64 = 400;

/// Numbers that look random (`xorshift64*`), the same for a seed.
struct Numbers(u64);

impl Numbers {
    fn of(round: u64) -> Self {
        Self(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let next = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        usize::try_from(next).unwrap() % limit.max(1)
    }
}

/// Pieces that readers treat apart.
const PIECES: [&[u8]; 20] = [
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"-1",
    b"9223372036854775808",
    b"1e999",
    b"\\u0000",
    b"\xff",
    b"\0",
    b"{\"a\":",
    b"[[[[[[[[",
    b"&a *a",
    b"!!binary",
    b"|\n",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"$patch",
    b"~1~0",
    b"k8s\0",
    b"---\n",
];

fn mutated(body: &[u8], round: u64) -> Vec<u8> {
    let mut numbers = Numbers::of(round);
    let mut out = body.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(out.len());
        match numbers.below(6) {
            0 if !out.is_empty() => out[at] ^= 1 << numbers.below(8),
            1 if !out.is_empty() => drop(out.remove(at)),
            2 => out.truncate(at),
            3 => {
                let end = (at + numbers.below(32)).min(out.len());
                let doubled = out[at..end].to_vec();
                out.splice(at..at, doubled);
            }
            _ => {
                let piece = PIECES[numbers.below(PIECES.len())];
                out.splice(at..at, piece.iter().copied());
            }
        }
    }
    out
}

fn pods() -> &'static Resource {
    registry().find("", "v1", "pods").unwrap()
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "p", "labels": { "a": "b" }, "ownerReferences": [
            { "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true }] },
        "spec": {
            "containers": [{
                "name": "c", "image": "i:1", "ports": [{ "containerPort": 80, "name": "http" }],
                "env": [{ "name": "E", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu" } } }],
                "resources": { "limits": { "cpu": "1500m", "memory": "1Gi" } },
                "livenessProbe": { "httpGet": { "port": "http" } }
            }],
            "tolerations": [{ "key": "k", "operator": "Exists", "tolerationSeconds": 3 }],
            "volumes": [{ "name": "v", "secret": { "secretName": "s", "items": [{ "key": "k", "path": "p", "mode": 256 }] } }]
        },
        "status": { "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z" }] }
    })
}

/// What becomes of a body that was read: all the way to the store, without one.
fn through(value: Value) {
    let mut object = value;
    if decode::check(pods(), &mut object, FieldValidation::Ignore).is_ok() {
        defaults::apply(pods(), &mut object);
        strategy::prepare_create(pods(), &mut object);
        let _ = validation::create(pods(), &object);
        let text = object.to_string();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), object);
    }
}

#[test]
fn mutated_json_and_yaml_are_read_or_refused() {
    let json = pod().to_string().into_bytes();
    let yaml = b"apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: b}}\nspec:\n  containers:\n  - name: c\n    image: &i \"x:1\"\n    args: [a, 1, true, ~]\n".to_vec();
    for round in 0..ROUNDS {
        for (body, encoding) in [(&json, Encoding::Json), (&yaml, Encoding::Yaml), (&json, Encoding::Yaml)] {
            if let Ok(parsed) = decode::parse(&mutated(body, round), encoding) {
                through(parsed.value);
            }
        }
    }
}

#[test]
fn mutated_protobuf_is_read_or_refused() {
    let body = protobuf::object(&pod()).unwrap();
    let mut read = 0;
    for round in 0..ROUNDS * 4 {
        let body = mutated(&body, round);
        if let Ok(parsed) = decode::parse(&body, Encoding::Protobuf) {
            read += 1;
            through(parsed.value);
        }
        if let Ok(stored) = protobuf::stored(&body) {
            // What upstream has stored can be given to its clients again.
            let _ = protobuf::object(&stored);
        }
    }
    assert!(read > 0, "mutations that leave nothing readable show nothing");
}

#[test]
fn mutated_patches_are_applied_or_refused() {
    let object = pod();
    let merge = json!({ "metadata": { "labels": { "a": null, "c": "d" } }, "spec": { "containers": null } })
        .to_string();
    let strategic = json!({ "spec": {
        "containers": [{ "name": "c", "image": "j" }, { "$patch": "delete", "name": "x" }],
        "$setElementOrder/containers": [{ "name": "c" }], "$retainKeys": ["containers"], "$deleteFromPrimitiveList/args": ["a"]
    } })
    .to_string();
    let operations = json!([
        { "op": "test", "path": "/metadata/name", "value": "p" }, { "op": "add", "path": "/spec/containers/-", "value": {} },
        { "op": "move", "from": "/metadata/labels/a", "path": "/metadata/labels/b~1c" }, { "op": "remove", "path": "/spec/volumes/0" }
    ])
    .to_string();
    for round in 0..ROUNDS {
        let mutated = |body: &str| mutated(body.as_bytes(), round);
        let patched = [
            patch::merge_patch(&object, &mutated(&merge)),
            patch::strategic_merge_patch(pods(), &object, &mutated(&strategic)),
            patch::json_patch(&object, &mutated(&operations)),
        ];
        patched.into_iter().flatten().for_each(through);
    }
}

#[test]
fn mutated_selectors_are_read_or_refused() {
    let object = pod();
    for round in 0..ROUNDS * 4 {
        for (text, labels) in
            [("a in (b,c),!z,x notin (y),n>3,e==f", true), ("metadata.name=p,status.phase!=Running", false)]
        {
            let mutated = mutated(text.as_bytes(), round);
            let Ok(text) = std::str::from_utf8(&mutated) else { continue };
            if labels {
                if let Ok(selector) = select::LabelSelector::parse(text) {
                    let again = select::LabelSelector::parse(&selector.to_string());
                    assert_eq!(
                        again.unwrap().matches(&object),
                        selector.matches(&object),
                        "round {round}: {text}"
                    );
                }
            } else if let Ok(selector) = select::FieldSelector::parse(pods(), text) {
                let _ = selector.matches(&object);
            }
        }
    }
}
