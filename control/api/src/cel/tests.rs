//! Expressions and what becomes of them.

use serde_json::json;

use super::*;

fn evaluate(source: &str, own: &serde_json::Value) -> Result<String, Fault> {
    let program = Program::compile(source, &[("self", Type::Any)], &Type::Any).expect(source);
    let value = program.evaluate(&[("self", Value::of(own, None))], &mut Budget::new(EXPRESSION))?;
    Ok(match value {
        Value::Bool(one) => one.to_string(),
        other => texts::text_of(&other).unwrap_or_else(|| Err(Fault::error("no text")))?,
    })
}

#[test]
fn expression_has_the_value_that_cel_gives_it() {
    let own = json!({
        "replicas": 3, "name": "web-1", "ports": [{ "name": "a", "port": 80 }, { "name": "b", "port": 443 }],
        "labels": { "app": "x", "a.b/c": "y" }, "empty": [], "min": 1, "max": 5, "ratio": 0.5, "nothing": null
    });
    for (source, expected) in [
        ("self.replicas >= self.min && self.replicas <= self.max", "true"),
        ("self.replicas == 3.0", "true"),
        ("has(self.gone) ? 'yes' : 'no'", "no"),
        ("has(self.replicas)", "true"),
        ("self.ports.all(p, p.port > 0)", "true"),
        ("self.ports.exists(p, p.name == 'b')", "true"),
        ("self.ports.exists_one(p, p.port == 80)", "true"),
        ("self.ports.map(p, p.name).join(',')", "a,b"),
        ("self.ports.filter(p, p.port > 100).size()", "1"),
        ("size(self.ports) + size(self.name)", "7"),
        ("self.labels.all(k, self.labels[k] != '')", "true"),
        ("'app' in self.labels && !('b' in self.labels)", "true"),
        ("self.labels['a.b/c']", "y"),
        ("self.labels.a__dot__b__slash__c", "y"),
        ("self.name.matches('^[a-z]+-[0-9]+$')", "true"),
        ("self.name.split('-')[1] + self.name.substring(0, 3)", "1web"),
        ("self.name.replace('web', 'x').upperAscii()", "X-1"),
        ("self.name.startsWith('web') || self.gone", "true"),
        ("self.gone || self.name.startsWith('web')", "true"),
        ("self.?gone.orValue('none')", "none"),
        ("self.?name.orValue('none')", "web-1"),
        ("self.ports.all(p, self.ports.exists_one(q, q.name == p.name))", "true"),
        ("[3, 1, 2].min() + [3, 1, 2].max()", "4"),
        ("[1, 2].isSorted() && ![2, 1].isSorted()", "true"),
        ("sets.contains([1, 2, 3], [1, 2])", "true"),
        ("duration('1h30m') > duration('80m')", "true"),
        ("timestamp('2024-01-02T03:04:05Z').getFullYear() == 2024", "true"),
        ("quantity('1Gi').isGreaterThan(quantity('500Mi'))", "true"),
        ("quantity('50k').add(20).sub(quantity('100k')).sub(-50000) == quantity('20')", "true"),
        ("quantity('1Gi').add(quantity('1Gi')).compareTo(quantity('2Gi'))", "0"),
        ("quantity('1500m').isInteger() || quantity('9e99').isInteger()", "false"),
        ("quantity('50k').sub(20000).asApproximateFloat() == 30000.0", "true"),
        ("quantity('2k').asInteger() + sign(quantity('-3'))", "1999"),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && isIP('::1')", "true"),
        ("url('https://example.com:8443/a?b=c').getHost()", "example.com:8443"),
        ("'%s has %d'.format([self.name, self.replicas])", "web-1 has 3"),
        ("{'a': 1}.a == 1 && type(1) == int", "true"),
        ("self.nothing == null", "true"),
        ("int('7') % 4 == 3 && -self.replicas == -3", "true"),
        ("self.ratio * 2.0 == 1.0", "true"),
        ("'abcabc'.find('b.') + string('x'.lastIndexOf('y'))", "bc-1"),
    ] {
        assert_eq!(evaluate(source, &own).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn expression_without_a_value_says_why() {
    let own = json!({ "a": 1, "list": [1] });
    for (source, expected) in [
        ("self.b == 1", "no such key: b"),
        ("self.list[3] == 1", "index out of bounds: 3"),
        ("self.a / 0 == 1", "division by zero"),
        ("quantity('1500m').asInteger() == 1", "cannot convert value to integer"),
        ("9223372036854775807 + self.a == 1", "integer overflow"),
        ("self.a && true", "no such overload: int is no bool"),
        ("self.a + 'x' == 'x'", "no such overload: _+_(int, string)"),
    ] {
        assert_eq!(evaluate(source, &own), Err(Fault::error(expected)), "{source}");
    }
}

#[test]
fn expression_that_makes_no_sense_is_refused() {
    let schema = json!({
        "type": "object",
        "properties": { "size": { "type": "integer" }, "name": { "type": "string" }, "list": { "type": "array", "items": { "type": "string" } } },
    });
    let node = crate::custom::Node::read(&schema).unwrap();
    for (source, expected) in [
        ("self.sise > 1", "undefined field 'sise'"),
        ("other > 1", "undeclared reference to 'other'"),
        ("self.name.nosuch()", "undeclared reference to 'nosuch'"),
        ("self.size == 'a'", "found no matching overload for '_==_' applied to '(int, string)'"),
        ("self.size", "must evaluate to bool but got int"),
        ("self.list.all(x, x > 1)", "found no matching overload for '_>_' applied to '(string, int)'"),
        ("self.name.size", "type 'string' does not support field selection"),
        ("self.size.all(x, x)", "expression of type 'int' cannot be range of a comprehension"),
    ] {
        let outcome = Program::compile(source, &[("self", Type::of(&node))], &Type::Bool);
        let why = outcome.map(drop).unwrap_err();
        assert!(why.lines().next().unwrap().contains(expected), "{source}: {why}");
    }
    for source in ["", "self.size >", "self.size > 1 &&", "a b", "((("] {
        assert!(Program::compile(source, &[("self", Type::Any)], &Type::Any).is_err(), "{source}");
    }
    let fine = Program::compile(
        "self.size > 1 && self.list.all(x, x != self.name)",
        &[("self", Type::of(&node))],
        &Type::Bool,
    );
    assert!(fine.is_ok());
}

#[test]
fn expression_that_costs_too_much_is_ended() {
    let own = json!({ "list": (0..2000).collect::<Vec<_>>() });
    let source = "self.list.all(a, self.list.all(b, a + b >= 0))";
    assert_eq!(evaluate(source, &own), Err(Fault::Cost));
}

#[test]
fn nesting_without_end_breaks_nothing() {
    for source in ["1+".repeat(5000) + "1", "[".repeat(8000)] {
        assert!(Program::compile(&source, &[], &Type::Any).is_err());
    }
    // What the parser makes flat is fine.
    for source in ["(".repeat(5000) + "1" + &")".repeat(5000), "!".repeat(8000) + "true"] {
        let _ = Program::compile(&source, &[], &Type::Any);
    }
}

proptest::proptest! {
    #[test]
    fn hostile_text_never_panics(source in "[a-z0-9 .()\\[\\]?:!&|<>=+*/%'\"{},-]{0,40}") {
        if let Ok(program) = Program::compile(&source, &[("a", Type::Any)], &Type::Any) {
            let own = json!({ "a": [1, "x", null, { "b": 2.5 }] });
            let _ = program.evaluate(&[("a", Value::of(&own, None))], &mut Budget::new(10_000));
        }
    }
}

#[test]
fn functions_of_versions_formats_and_two_variables_are_there() {
    let own = json!({ "map": { "a": 1, "b": 2 }, "list": [3, 1, 2], "name": "x" });
    for (source, expected) in [
        ("semver('1.2.3').isGreaterThan(semver('1.2.3-rc.1')) && semver('v1', true).minor() == 0", "true"),
        ("isSemver('1.2') || isSemver('1.2', true)", "true"),
        ("format.dns1123Label().validate('a-b').hasValue()", "false"),
        ("format.named('dns1123Label').value().validate('A').value()[0].contains('lowercase')", "true"),
        ("optional.of(self.name).optMap(n, n + '!').orValue('')", "x!"),
        ("self.?gone.optMap(n, n + '!').orValue('none')", "none"),
        ("self.map.all(k, v, v > 0) && self.map.exists(k, v, k == 'b' && v == 2)", "true"),
        ("self.list.transformList(i, v, v > 1, i * v).sum()", "4"),
        ("self.map.transformMap(k, v, v * 2).b", "4"),
        ("self.list.sort() == [1, 2, 3] && lists.range(3) == [0, 1, 2]", "true"),
        ("[[1, [2]], [3]].flatten(2) == [1, 2, 3]", "true"),
        ("strings.quote('a\"b')", "\"a\\\"b\""),
        ("{'a': 1, 'b': 2} == self.map && self.map == {'b': 2, 'a': 1}", "true"),
        ("{1: 'a'} == {1: 'a'} && {1: 'a'} != {2: 'a'}", "true"),
    ] {
        assert_eq!(evaluate(source, &own).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn long_lists_can_be_mapped_and_filtered() {
    let own = json!({ "list": (0..20_000).collect::<Vec<_>>() });
    assert_eq!(evaluate("self.list.map(x, x + 1).filter(x, x > 10).size()", &own).as_deref(), Ok("19990"));
}

#[test]
fn what_is_compared_compiled_and_made_is_paid_for() {
    let long: Vec<String> = (0..3000).map(|at| at.to_string()).collect();
    let members: serde_json::Map<String, serde_json::Value> =
        long.iter().map(|one| (one.clone(), json!(1))).collect();
    let own = json!({ "list": long, "map": members, "text": "x".repeat(100_000) });
    for source in [
        "self.list.distinct().size() == 3000",
        "sets.equivalent(self.list, self.list)",
        "self.list.exists(x, self.text.matches(x))",
        "self.list.map(x, self.text).join(',') == ''",
        "self.list.all(x, self.map == self.map)",
        "lists.range(1000000).size() > 0",
    ] {
        assert_eq!(evaluate(source, &own), Err(Fault::Cost), "{source}");
    }
    // What is written in the expression is compiled once.
    assert_eq!(evaluate("self.list.all(x, x.matches('^[0-9]+$'))", &own).as_deref(), Ok("true"));
}
