//! Checking what a file says of its issuers, field by field.

use http::Uri;
use skep_api::expression::{Expression, Wanted};
use skep_api::validation::{FieldError, names};

use super::{
    ClaimRuleFile, Issuer, IssuerFile, JwtFile, MOST_ISSUERS, Mapping, MappingFile, Rule, UserRuleFile,
    compile,
};
use crate::authn::jwt::provider;
use crate::authn::jwt::signing::Signing;

type Errors = Vec<FieldError>;

pub(super) fn issuers(
    files: &[JwtFile],
    own: &[String],
    algorithms: &[Signing],
    errors: &mut Errors,
) -> Vec<Issuer> {
    if files.len() > MOST_ISSUERS {
        errors.push(FieldError::too_many("jwt", files.len(), MOST_ISSUERS));
        return Vec::new();
    }
    let mut checked = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let path = format!("jwt[{at}]");
        let before = &files[..at];
        checked.extend(issuer(&path, file, own, algorithms, errors));
        if before.iter().any(|other| other.issuer.url == file.issuer.url) {
            errors.push(FieldError::duplicate(format!("{path}.issuer.url"), file.issuer.url.as_str()));
        }
        let discovery = file.issuer.discovery_url.as_str();
        if !discovery.is_empty() && before.iter().any(|other| other.issuer.discovery_url == discovery) {
            errors.push(FieldError::duplicate(format!("{path}.issuer.discoveryURL"), discovery));
        }
    }
    checked
}

fn issuer(
    path: &str,
    file: &JwtFile,
    own: &[String],
    algorithms: &[Signing],
    errors: &mut Errors,
) -> Option<Issuer> {
    let discovery = place(&format!("{path}.issuer"), &file.issuer, own, errors);
    audiences(&format!("{path}.issuer"), &file.issuer, errors);
    let authority = authority(&format!("{path}.issuer"), &file.issuer, errors);
    let (required, claim_rules) =
        claim_rules(&format!("{path}.claimValidationRules"), &file.claim_validation_rules, errors);
    let mappings = format!("{path}.claimMappings");
    let username = mapping(&format!("{mappings}.username"), &file.claim_mappings.username, true, errors);
    let groups = mapping(&format!("{mappings}.groups"), &file.claim_mappings.groups, false, errors);
    let uid = uid(&format!("{mappings}.uid"), &file.claim_mappings.uid, errors);
    let extra = extra(&format!("{mappings}.extra"), file, errors);
    let user_rules = user_rules(&format!("{path}.userValidationRules"), &file.user_validation_rules, errors);
    if let Some(Mapping::Expression(name)) = &username {
        let others = claim_rules.iter().map(|rule| &rule.expression).chain(extra.iter().map(|(_, one)| one));
        let verified = others.chain([name]).any(|one| one.selects("claims", "email_verified"));
        if name.selects("claims", "email") && !verified {
            let why = "claims.email_verified must be used in claimMappings.username.expression or \
                       claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is \
                       used in claimMappings.username.expression";
            errors.push(FieldError::invalid(format!("{mappings}.username.expression"), name.source(), why));
        }
    }
    Some(Issuer {
        url: file.issuer.url.clone(),
        discovery: discovery?,
        authority,
        audiences: file.issuer.audiences.clone(),
        algorithms: algorithms.to_vec(),
        username: username?,
        groups,
        uid,
        extra,
        required,
        claim_rules,
        user_rules,
    })
}

/// Where the discovery document is.
fn place(path: &str, file: &IssuerFile, own: &[String], errors: &mut Errors) -> Option<Uri> {
    let issuer = match file.url.as_str() {
        "" => {
            errors.push(FieldError::required(format!("{path}.url"), ""));
            None
        }
        text => url(format!("{path}.url"), text, own, errors),
    };
    let given = file.discovery_url.as_str();
    if given.is_empty() {
        issuer?;
        return provider::discovery(&file.url);
    }
    let path = format!("{path}.discoveryURL");
    if !file.url.is_empty() && file.url.trim_end_matches('/') == given.trim_end_matches('/') {
        errors.push(FieldError::invalid(path.clone(), given, "discoveryURL must be different from URL"));
    }
    url(path, given, &[], errors)
}

fn url(path: String, text: &str, own: &[String], errors: &mut Errors) -> Option<Uri> {
    let before = errors.len();
    let mut wrong = |why: &str| errors.push(FieldError::invalid(path.clone(), text, why));
    if own.iter().any(|one| one == text) {
        wrong(&format!("URL must not overlap with disallowed issuers: [{}]", own.join(" ")));
    }
    if text.contains('#') {
        wrong("URL must not contain a fragment");
    }
    let Ok(uri) = text.split('#').next().unwrap_or_default().parse::<Uri>() else {
        wrong("is not a URL");
        return None;
    };
    if uri.scheme_str() != Some("https") {
        wrong("URL scheme must be https");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        wrong("URL must not contain a username or password");
    }
    if uri.query().is_some_and(|query| !query.is_empty()) {
        wrong("URL must not contain a query");
    }
    (errors.len() == before).then_some(uri)
}

fn audiences(path: &str, file: &IssuerFile, errors: &mut Errors) {
    let list = &file.audiences;
    let at = format!("{path}.audiences");
    if list.is_empty() {
        errors.push(FieldError::required(at.clone(), format!("at least one {at} is required")));
        return;
    }
    for (index, audience) in list.iter().enumerate() {
        if audience.is_empty() {
            errors.push(FieldError::required(format!("{at}[{index}]"), ""));
        }
        if list[..index].contains(audience) {
            errors.push(FieldError::duplicate(format!("{at}[{index}]"), audience.as_str()));
        }
    }
    let policy = file.audience_match_policy.as_str();
    let why = match (list.len(), policy) {
        (_, "MatchAny") | (1, "") => return,
        (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    errors.push(FieldError::invalid(format!("{path}.audienceMatchPolicy"), policy, why));
}

fn authority(path: &str, file: &IssuerFile, errors: &mut Errors) -> Option<String> {
    if !file.egress_selector_type.is_empty() {
        let why = "egress selector is not supported by this server";
        let given = file.egress_selector_type.as_str();
        errors.push(FieldError::invalid(format!("{path}.egressSelectorType"), given, why));
    }
    let pem = file.certificate_authority.as_str();
    if pem.is_empty() {
        return None;
    }
    if let Err(error) = crate::tls::roots(pem) {
        let path = format!("{path}.certificateAuthority");
        errors.push(FieldError::invalid(path, "<omitted>", error.to_string()));
    }
    Some(pem.to_owned())
}

fn claim_rules(
    path: &str,
    files: &[ClaimRuleFile],
    errors: &mut Errors,
) -> (Vec<(String, String)>, Vec<Rule>) {
    let (mut required, mut rules) = (Vec::new(), Vec::new());
    for (at, file) in files.iter().enumerate() {
        let (path, before) = (format!("{path}[{at}]"), &files[..at]);
        match (file.claim.as_str(), file.expression.as_str()) {
            ("", "") => errors.push(FieldError::required(path, "claim or expression is required")),
            (claim, "") => {
                if !file.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.push(FieldError::invalid(format!("{path}.message"), file.message.as_str(), why));
                }
                if before.iter().any(|other| other.claim == claim) {
                    errors.push(FieldError::duplicate(format!("{path}.claim"), claim));
                }
                required.push((claim.to_owned(), file.required_value.clone()));
            }
            ("", expression) => {
                if !file.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    let given = file.required_value.as_str();
                    errors.push(FieldError::invalid(format!("{path}.requiredValue"), given, why));
                }
                let path = format!("{path}.expression");
                if before.iter().any(|other| other.expression == expression) {
                    errors.push(FieldError::duplicate(path, expression));
                    continue;
                }
                let compiled = compile(path, expression, "claims", Wanted::Bool, errors);
                rules.extend(compiled.map(|expression| Rule { expression, message: file.message.clone() }));
            }
            (claim, _) => {
                errors.push(FieldError::invalid(path, claim, "claim and expression can't both be set"));
            }
        }
    }
    (required, rules)
}

fn user_rules(path: &str, files: &[UserRuleFile], errors: &mut Errors) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let path = format!("{path}[{at}].expression");
        if file.expression.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if files[..at].iter().any(|other| other.expression == file.expression) {
            errors.push(FieldError::duplicate(path, file.expression.as_str()));
        } else {
            let compiled = compile(path, &file.expression, "user", Wanted::Bool, errors);
            rules.extend(compiled.map(|expression| Rule { expression, message: file.message.clone() }));
        }
    }
    rules
}

fn mapping(path: &str, file: &MappingFile, needed: bool, errors: &mut Errors) -> Option<Mapping> {
    match (file.claim.as_str(), file.expression.as_str()) {
        ("", "") => {
            if needed {
                errors.push(FieldError::required(path, "claim or expression is required"));
            }
            None
        }
        (claim, "") => {
            let Some(prefix) = &file.prefix else {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.push(FieldError::required(format!("{path}.prefix"), why));
                return None;
            };
            Some(Mapping::Claim { name: claim.to_owned(), prefix: prefix.clone() })
        }
        ("", expression) => {
            if let Some(prefix) = &file.prefix {
                let why = "may not be specified when expression is set";
                errors.push(FieldError::invalid(format!("{path}.prefix"), prefix.as_str(), why));
            }
            let compiled =
                compile(format!("{path}.expression"), expression, "claims", Wanted::Anything, errors);
            compiled.map(Mapping::Expression)
        }
        _ => {
            errors.push(FieldError::invalid(path, "", "claim and expression can't both be set"));
            None
        }
    }
}

fn uid(path: &str, file: &MappingFile, errors: &mut Errors) -> Option<Mapping> {
    match (file.claim.as_str(), file.expression.as_str()) {
        ("", "") => None,
        (claim, "") => Some(Mapping::Claim { name: claim.to_owned(), prefix: String::new() }),
        ("", expression) => {
            let compiled =
                compile(format!("{path}.expression"), expression, "claims", Wanted::Anything, errors);
            compiled.map(Mapping::Expression)
        }
        _ => {
            errors.push(FieldError::invalid(path, "", "claim and expression can't both be set"));
            None
        }
    }
}

fn extra(path: &str, file: &JwtFile, errors: &mut Errors) -> Vec<(String, Expression)> {
    let files = &file.claim_mappings.extra;
    let mut extra = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let (path, key) = (format!("{path}[{at}]"), file.key.as_str());
        let mut wrong = |why: &str| errors.push(FieldError::invalid(format!("{path}.key"), key, why));
        match key.split_once('/') {
            Some((domain, rest))
                if !rest.is_empty() && names::dns_subdomain(&domain.to_lowercase()).is_ok() =>
            {
                let within = |of: &str| {
                    domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'))
                };
                if within("kubernetes.io") || within("k8s.io") {
                    wrong("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
                }
            }
            _ => wrong("must be a domain-prefixed path (such as \"acme.io/foo\")"),
        }
        if key.chars().any(char::is_uppercase) {
            wrong("must be lowercase");
        }
        if files[..at].iter().any(|other| other.key == key) {
            errors.push(FieldError::duplicate(format!("{path}.key"), key));
            continue;
        }
        let path = format!("{path}.valueExpression");
        if file.value_expression.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        let compiled = compile(path, &file.value_expression, "claims", Wanted::Anything, errors);
        extra.extend(compiled.map(|expression| (key.to_owned(), expression)));
    }
    extra
}
