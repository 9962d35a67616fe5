//! Estimates: the numbers are those of upstream's own tests (apiextensions' `TestCostEstimation`, `cel/library/cost_test.go`).

use serde_json::{Value, json};

use super::super::Type;
use super::range::Range;
use super::*;
use crate::custom::Node;

fn program(source: &str, node: &Node) -> Program {
    let own = Type::of(node);
    Program::compile(source, &[("self", own.clone()), ("oldSelf", own)], &Type::Any).expect(source)
}

#[track_caller]
fn check(schema: Value, source: &str, expected: u64) {
    let node = Node::read(&schema).unwrap();
    let declared = Declared::of(&node).unwrap();
    assert_eq!(program(source, &node).estimate(&declared, false), expected, "{source} over {schema}");
}

/// A schema without limits, and one with this limit on all of its lists, maps and texts.
#[track_caller]
fn both(schema: impl Fn(Option<u64>) -> Value, source: &str, free: u64, most: u64, limited: u64) {
    check(schema(None), source, free);
    check(schema(Some(most)), source, limited);
}

fn typed(kind: &str) -> Value {
    match kind {
        "duration" | "date" | "date-time" => json!({ "type": "string", "format": kind }),
        "int-or-string" => json!({ "x-kubernetes-int-or-string": true }),
        kind => json!({ "type": kind }),
    }
}

fn with(mut schema: Value, limit: &str, most: Option<u64>) -> Value {
    if let Some(most) = most {
        schema[limit] = most.into();
    }
    schema
}

fn list_of(item: Value) -> impl Fn(Option<u64>) -> Value {
    move |most| with(json!({ "type": "array", "items": item }), "maxItems", most)
}

fn list(kind: &str) -> impl Fn(Option<u64>) -> Value {
    list_of(typed(kind))
}

fn map_of(item: Value) -> impl Fn(Option<u64>) -> Value {
    move |most| with(json!({ "type": "object", "additionalProperties": item }), "maxProperties", most)
}

fn map(kind: &str) -> impl Fn(Option<u64>) -> Value {
    map_of(typed(kind))
}

fn text(most: Option<u64>) -> Value {
    with(json!({ "type": "string" }), "maxLength", most)
}

#[test]
fn loops_cost_what_their_ranges_allow() {
    for (kind, free, most, limited) in [
        ("number", 4_718_591, 10, 32),
        ("string", 3_145_727, 20, 62),
        ("boolean", 1_887_437, 5, 17),
        ("int-or-string", 4_718_591, 10, 32),
        ("duration", 2_359_295, 5, 17),
        ("date", 725_936, 15, 47),
        ("date-time", 428_963, 25, 77),
    ] {
        both(list(kind), "self.all(x, true)", free, most, limited);
    }
    for (kind, free, most, limited) in [
        ("number", 1_348_169, 10, 32),
        ("string", 1_179_647, 3, 11),
        ("boolean", 943_718, 100, 302),
        ("int-or-string", 1_348_169, 15, 47),
        ("duration", 1_048_577, 5, 17),
        ("date", 524_288, 10, 32),
        ("date-time", 349_526, 25, 77),
    ] {
        both(map(kind), "self.all(x, true)", free, most, limited);
    }
    both(
        list_of(json!({ "type": "array", "items": { "type": "number" } })),
        "self.all(x, true)",
        3_145_727,
        100,
        302,
    );
    let object = json!({
        "type": "object", "required": ["required"],
        "properties": { "required": { "type": "string" }, "optional": { "type": "string" } }
    });
    both(list_of(object.clone()), "self.all(x, true)", 555_128, 50, 152);
    both(map_of(object), "self.all(x, true)", 428_963, 20, 62);
    both(map_of(map("number")(None)), "self.all(x, true)", 1_179_647, 10, 32);
    both(map_of(list("number")(None)), "self.all(x, true)", 1_179_647, 25, 77);
    both(list("number"), "self.all(x, x == 0.0)", 6_291_454, 3 * 1024 * 2048, 25_165_826);
    both(list_of(map("number")(None)), "self.all(x, x.y == 25.2)", 6_291_452, 12, 74);
}

#[test]
fn nested_loops_cost_their_product() {
    check(list("number")(Some(10)), "self.all(x, self.all(y, true))", 352);
    check(list("number")(Some(10)), "self.all(x, self.all(y, self.all(z, true)))", 3_552);
    let node = Node::read(&list("number")(None)).unwrap();
    let declared = Declared::of(&node).unwrap();
    assert!(program("self.all(x, self.all(y, true))", &node).estimate(&declared, false) > LIMIT);
}

#[test]
fn operators_cost_what_their_operands_allow() {
    both(list("number"), "self[1] == 0.0", 2, 5_000, 2);
    both(list("string"), "self[1] == self[1]", 314_577, 8, 314_577);
    both(list("number"), "self[3] == 0.0", 2, 0, 2);
    both(map("number"), "self['x'] == 0.0", 2, 0, 2);
    both(text, "self == 'x'", 2, 0, 1);
    let bytes = |most| with(json!({ "type": "string", "format": "byte" }), "maxLength", most);
    both(bytes, "self == b'x'", 2, 0, 1);
    both(list("int-or-string"), "self[0] == 5", 3, 10, 3);
    both(list("boolean"), "self[0] == false", 2, 25, 2);
    both(list_of(json!({ "type": "object" })), "self[0] == null", 2, 422, 2);
    let lists = list_of(json!({ "type": "array", "items": { "type": "number" } }));
    both(lists, "self[0][0] == -1.0", 3, 51, 3);
    both(list_of(map("number")(None)), "self[0].x > 2.0", 4, 3_000, 4);
    both(list("duration"), "self[0].getHours() == 2", 4, 525, 4);
    both(list("date"), "self[2].getDayOfMonth() == 13", 4, 42, 4);
    both(map("integer"), "oldSelf.size() == self.size()", 5, 10, 5);
    both(map("date-time"), "self['a'] == self['b']", 8, 7, 8);
    both(map("duration"), "self['c'] == self['d']", 8, 42, 8);
}

#[test]
fn functions_of_texts_cost_what_their_lengths_allow() {
    both(text, "self.contains('test')", 314_574, 10, 5);
    both(text, "self.startsWith('test')", 2, 15, 2);
    both(text, "self.endsWith('test')", 2, 30, 2);
    both(text, "size(self + 'hello') > size('hello')", 314_578, 4, 7);
    both(text, "self.matches('x')", 314_574, 50, 22);
    both(text, "''.matches('(((((((((())))))))))[0-9]')", 7, 10, 7);
    both(text, "self.matches('')", 1, 100, 1);
    both(text, "self.find('[0-9]+') == ''", 629_147, 10, 11);
    both(text, "self.lowerAscii() == 'lower!'", 314_575, 10, 6);
    let texts = |most| with(json!({ "type": "array", "items": text(most) }), "maxItems", most);
    both(texts, "self.join(' ') == 'aa bb'", 329_853_068_905, 10, 43);
    both(texts, "self.isSorted() == true", 329_854_432_052, 10, 52);
    let object = |most| {
        json!({ "type": "object", "properties": {
            "str": text(most), "before": text(Some(2)), "after": text(Some(4)), "separator": text(most)
        } })
    };
    both(object, "self.str.replace(self.before, self.after) == 'does not matter'", 629_154, 4, 12);
    both(object, "self.str.split(self.separator) == []", 629_160, 10, 22);
    let choices =
        |most| with(json!({ "type": "string", "enum": ["A", "B", "C", "LongValue"] }), "maxLength", most);
    both(choices, "self.contains('A')", 2, 1_000, 401);
    let either = |most| with(typed("int-or-string"), "maxLength", most);
    both(either, "isQuantity(self)", 314_574, 20, 9);
}

#[test]
fn nested_schemas_are_followed() {
    let nested =
        |most| with(json!({ "type": "object", "additionalProperties": text(most) }), "maxProperties", most);
    both(nested, "self.all(x, x.contains(self[x]))", 2_752_507, 10, 72);
    let deep = |most| {
        let object = json!({
            "type": "object", "required": ["required"],
            "properties": { "required": { "type": "string" }, "optional": { "type": "string" } }
        });
        let inner = with(json!({ "type": "object", "additionalProperties": object }), "maxProperties", most);
        with(json!({ "type": "array", "items": inner }), "maxItems", most)
    };
    both(deep, "self.all(x, x['y'].required == 'z')", 7_340_027, 10, 72);
}

#[test]
fn root_of_an_object_has_metadata() {
    let node = Node { embedded: true, ..Node::read(&json!({ "type": "object" })).unwrap() };
    let declared = Declared::of(&node).unwrap();
    assert_eq!(program("self.metadata.name.contains('test')", &node).estimate(&declared, false), 314_576);
}

/// What an expression without variables costs.
#[track_caller]
fn plain(source: &str, least: u64, most: u64) {
    let node = Node::read(&json!({ "type": "object" })).unwrap();
    let declared = Declared::of(&node).unwrap();
    let expression = expand::Expansion::of(&program(source, &node).expression);
    assert_eq!(walk::estimate(&expression, &declared, Vec::new()), Range { least, most }, "{source}");
}

#[test]
fn functions_of_kubernetes_cost_what_upstream_says() {
    for (source, least, most) in [
        ("[1, 2, 3, 4, 5].sum()", 15, 15),
        ("[1, 2, 3, 4, 5].isSorted()", 15, 15),
        ("[1, 2, 3, 4, 5].indexOf(3)", 15, 15),
        ("url('https:://kubernetes.io/').getHost()", 4, 4),
        ("url('https:://kubernetes.io/') == url('https:://kubernetes.io/')", 7, 9),
        ("url('https:://kubernetes.io/') == url('http://x.b')", 5, 5),
        ("ip('192.168.0.1')", 2, 2),
        ("ip('192.168.0.1') == ip('192.168.0.1')", 5, 5),
        ("ip('2001:db8:3333:4444:5555:6666:7777:8888').family()", 5, 5),
        ("ip.isCanonical('192.168.0.1')", 3, 3),
        ("ip.isCanonical('2001:db8:3333:4444:5555:6666:7777:8888')", 8, 8),
        ("cidr('192.168.0.0/16')", 2, 2),
        ("'ABCDEFGHIJ abcdefghij'.lowerAscii()", 3, 3),
        ("'ABCDEFGHIJ abcdefghij'.lowerAscii() == 'abcdefghij ABCDEFGHIJ'.lowerAscii()", 7, 9),
        ("strings.quote('ABCDEFGHIJ abcdefghij')", 3, 3),
        ("strings.quote('ABCDEFGHIJ abcdefghij') == strings.quote('ABCDEFGHIJ abcdefghij')", 7, 11),
        ("'abc 123 def 123'.replace('123', '456')", 3, 3),
        ("'abc 123 def 123'.split(' ', 1)", 3, 3),
        ("'abc 123 def 123'.substring(5, 8)", 2, 2),
        ("'abc 123 def 123'.findAll('123', 1)", 2, 2),
        ("quantity('200M') == quantity('0.2G') && quantity('0.2G') == quantity('200M')", 3, 6),
        ("format.named('dns1123subdomain')", 1, 1),
        ("format.named('dns1123Subdomain').value().validate('my-name')", 34, 34),
        ("format.named('dns1123Label').value() == format.named('dns1123Label').value()", 5, 11),
        ("sets.contains([], [])", 21, 21),
        ("sets.contains([1, 2, 3, 4], [2, 3])", 29, 29),
        ("sets.contains([[1], [2, 3]], [[2, 3.0]])", 53, 53),
        ("sets.equivalent([1], [1, 1])", 25, 25),
    ] {
        plain(source, least, most);
    }
}

#[test]
fn loops_of_two_variables_cost_what_upstream_says() {
    for (source, least, most) in [
        ("{'a': 1, 'b': 2}.all(k, v, v > 0)", 37, 41),
        ("{'a': 1, 'b': 2}.exists(k, v, v > 0)", 39, 43),
        ("{'a': 1, 'b': 2}.existsOne(k, v, v > 0)", 38, 40),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v + 1)", 71, 71),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v < 5, v + 1)", 67, 75),
        ("[1, 2].all(i, v, v > 0)", 17, 21),
        ("[1, 2].exists(i, v, v > 0)", 19, 23),
        ("[1, 2].existsOne(i, v, v > 0)", 18, 20),
        ("[1, 2].transformList(i, v, v + 1)", 49, 49),
        ("[1, 2].transformList(i, v, v < 5, v + 1)", 27, 53),
    ] {
        plain(source, least, most);
    }
}

#[test]
fn deep_expressions_are_estimated_in_time() {
    // Each level is looked at once, not once per way to it.
    let nested = "self.map(x, ".repeat(60) + "self" + &")".repeat(60) + ".size() > 0";
    let node = Node::read(&list("number")(Some(1))).unwrap();
    let declared = Declared::of(&node).unwrap();
    assert!(program(&nested, &node).estimate(&declared, false) > 60);
    let chained = "self[?0]".to_owned() + &".optMap(x, x)".repeat(60) + ".hasValue()";
    assert!(program(&chained, &node).estimate(&declared, false) > 60);
}
