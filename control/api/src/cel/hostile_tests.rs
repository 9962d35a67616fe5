//! Expressions that nobody would write: whatever they are, they are refused, have a value, or end when they cost too much.
//! Nothing panics, and no value is larger than what was paid for it.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const LIMIT: u64 = 20_000;
/// The parts of text that one unit of cost buys, with room for quotes and escapes.
const BYTES: usize = 64;

const METHODS: &[&str] = &[
    "size",
    "contains",
    "matches",
    "startsWith",
    "endsWith",
    "split",
    "join",
    "replace",
    "substring",
    "indexOf",
    "lastIndexOf",
    "lowerAscii",
    "upperAscii",
    "trim",
    "charAt",
    "reverse",
    "format",
    "find",
    "findAll",
    "add",
    "sub",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "asInteger",
    "asApproximateFloat",
    "sign",
    "getScheme",
    "getHost",
    "getQuery",
    "family",
    "isLoopback",
    "containsIP",
    "containsCIDR",
    "prefixLength",
    "masked",
    "getFullYear",
    "getHours",
    "getSeconds",
    "sort",
    "sortBy",
    "distinct",
    "slice",
    "flatten",
    "sum",
    "min",
    "max",
    "isSorted",
    "orValue",
    "hasValue",
    "value",
    "or",
    "major",
    "minor",
    "validate",
    "first",
    "last",
    "nonsense",
];
const FUNCTIONS: &[&str] = &[
    "size",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "type",
    "dyn",
    "duration",
    "timestamp",
    "quantity",
    "isQuantity",
    "url",
    "isURL",
    "ip",
    "isIP",
    "cidr",
    "isCIDR",
    "ip.isCanonical",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "lists.range",
    "strings.quote",
    "semver",
    "isSemver",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "format.named",
    "math.greatest",
    "math.least",
    "has",
    "nonsense",
];
const OPERATORS: &[&str] = &["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"];
const MACROS: &[&str] = &["all", "exists", "exists_one", "map", "filter", "existsOne", "optMap", "sortBy"];

fn leaf() -> impl Strategy<Value = String> {
    const LITERALS: &[&str] = &[
        "a",
        "a.list",
        "a.map",
        "a.text",
        "a.number",
        "a.gone",
        "a.?gone",
        "a.null",
        "true",
        "null",
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615u",
        "1e308",
        "-0.0",
        "0.0/0.0",
        "''",
        "'x'",
        "'(a+)+$'",
        "'[a-z]{1000}'",
        "'%s%d%x%e%b'",
        "b'\\xff'",
        "'9e18'",
        "'1Ei'",
        "'-5m'",
        "'2024-02-30T00:00:00Z'",
        "'1.2.3-rc.1'",
        "'10.0.0.0/8'",
        "'::ffff:1.2.3.4'",
        "'https://[::1]:8/?a=b'",
        "[]",
        "{}",
        "[1, 'a', null]",
        "{'k': 1}",
        "{1: 2, true: 3}",
        "type(1)",
        "x",
    ];
    prop_oneof![
        6 => proptest::sample::select(LITERALS).prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => "[ -~]{0,12}".prop_map(|text| format!("{text:?}")),
    ]
}

/// An expression, mostly one that parses.
pub(crate) fn expression() -> impl Strategy<Value = String> {
    leaf().prop_recursive(6, 48, 3, |inner| {
        let (one, two) = (inner.clone(), (inner.clone(), inner.clone()));
        let three = (inner.clone(), inner.clone(), inner);
        let pick = |names: &'static [&'static str]| proptest::sample::select(names);
        prop_oneof![
            4 => (two.clone(), pick(OPERATORS)).prop_map(|((l, r), op)| format!("({l}) {op} ({r})")),
            3 => (one.clone(), pick(METHODS)).prop_map(|(of, name)| format!("({of}).{name}()")),
            3 => (two.clone(), pick(METHODS)).prop_map(|((of, with), name)| format!("({of}).{name}({with})")),
            1 => (three.clone(), pick(METHODS)).prop_map(|((of, l, r), name)| format!("({of}).{name}({l}, {r})")),
            2 => (one.clone(), pick(FUNCTIONS)).prop_map(|(of, name)| format!("{name}({of})")),
            2 => (two.clone(), pick(FUNCTIONS)).prop_map(|((l, r), name)| format!("{name}({l}, {r})")),
            4 => (two.clone(), pick(MACROS)).prop_map(|((of, body), name)| format!("({of}).{name}(x, {body})")),
            1 => (three.clone(), pick(MACROS))
                .prop_map(|((of, l, r), name)| format!("({of}).{name}(x, {l}, {r})")),
            1 => two.clone().prop_map(|(value, body)| format!("cel.bind(x, {value}, {body})")),
            1 => three.prop_map(|(if_, then, else_)| format!("({if_}) ? ({then}) : ({else_})")),
            1 => two.clone().prop_map(|(of, at)| format!("({of})[{at}]")),
            1 => two.clone().prop_map(|(of, at)| format!("({of})[?{at}]")),
            1 => two.clone().prop_map(|(l, r)| format!("[{l}, ?optional.of({r})]")),
            1 => two.prop_map(|(key, value)| format!("{{{key}: {value}}}")),
            1 => one.clone().prop_map(|of| format!("!({of})")),
            1 => one.prop_map(|of| format!("-({of})")),
        ]
    })
}

pub(crate) fn own() -> serde_json::Value {
    json!({
        "list": (0..40).collect::<Vec<_>>(), "map": { "k": [1, 2], "": null, "x": { "y": "z" } },
        "text": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "number": 1.5, "null": null,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn hostile_expression_ends_within_what_it_may_cost(source in expression()) {
        let given = Type::Any;
        let compiled = Program::compile(&source, &[("a", given)], &Type::Any);
        if let Ok(program) = compiled {
            let own = own();
            let mut budget = Budget::new(LIMIT);
            let outcome = program.evaluate(&[("a", Value::of(&own, None))], &mut budget);
            match outcome {
                Ok(value) => {
                    let paid = usize::try_from(LIMIT - budget.left()).unwrap();
                    let size = value.to_json().map_or(0, |json| json.to_string().len());
                    prop_assert!(size <= (paid + source.len() + 1000) * BYTES, "{size} bytes for {paid}: {source}");
                }
                Err(Fault::Cost) => prop_assert_eq!(budget.left(), 0),
                Err(Fault::Error(why)) => prop_assert!(!why.is_empty()),
            }
        }
    }

    #[test]
    fn expression_has_the_same_value_each_time(source in expression()) {
        let compiled = Program::compile(&source, &[("a", Type::Any)], &Type::Any);
        if let Ok(program) = compiled {
            let own = own();
            let run = || {
                let mut budget = Budget::new(LIMIT);
                let outcome = program.evaluate(&[("a", Value::of(&own, None))], &mut budget);
                (outcome.map(|value| value.to_json().map(|json| json.to_string())), budget.left())
            };
            prop_assert_eq!(run(), run());
        }
    }
}
