//! From claims to a user: by the names of claims, or by expressions. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use skep_api::expression::Expression;

use super::Claims;
use super::configuration::{Issuer, Mapping, Rule};
use crate::user::UserInfo;

/// The user that the claims of a token make.
///
/// # Errors
///
/// When a claim that is needed is not there or of another type, or a rule does not hold.
pub(super) fn user(issuer: &Issuer, claims: Claims) -> Result<UserInfo, String> {
    let claims = Value::Object(claims);
    let name = username(&issuer.username, &claims)?;
    let groups = groups(issuer.groups.as_ref(), &claims)?;
    let uid = match &issuer.uid {
        None => String::new(),
        Some(Mapping::Claim { name, .. }) => {
            text(&claims, name).map_err(|why| format!("oidc: parse uid claim {name:?}: {why}"))?
        }
        Some(Mapping::Expression(expression)) => {
            let found = evaluate(expression, &claims, "uid claim")?;
            found.as_str().map(str::to_owned).ok_or(
                "oidc: error evaluating uid claim expression: uid claim expression must return a string",
            )?
        }
    };
    let mut extra = BTreeMap::new();
    if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
        extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("JTI={id}")]);
    }
    for (key, expression) in &issuer.extra {
        let values = list(&evaluate(expression, &claims, "extra claim")?)
            .map_err(|why| format!("oidc: error evaluating extra claim expression: {why}"))?;
        if !values.is_empty() {
            extra.insert(key.clone(), values);
        }
    }
    for (claim, wanted) in &issuer.required {
        if claims.get(claim).is_none() {
            return Err(format!("oidc: required claim {claim} not present in ID token"));
        }
        let found = text(&claims, claim).map_err(|why| format!("oidc: parse claim {claim}: {why}"))?;
        if found != *wanted {
            return Err(format!(
                "oidc: required claim {claim} value does not match. Got = {found}, want = {wanted}"
            ));
        }
    }
    check(&issuer.claim_rules, ("claims", &claims), "claim validation expression")?;
    let user = UserInfo { name, uid, groups, extra };
    let shown = json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
    check(&issuer.user_rules, ("user", &shown), "user info validation rule")?;
    Ok(user)
}

fn evaluate(expression: &Expression, claims: &Value, what: &str) -> Result<Value, String> {
    expression
        .evaluate(&[("claims", claims)])
        .map_err(|why| format!("oidc: error evaluating {what} expression: {why}"))
}

fn text(claims: &Value, name: &str) -> Result<String, String> {
    match claims.get(name) {
        None => Err("claim not present".into()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err("claim is not a string".into()),
    }
}

fn username(mapping: &Mapping, claims: &Value) -> Result<String, String> {
    let (name, prefix) = match mapping {
        Mapping::Expression(expression) => {
            let found = evaluate(expression, claims, "username claim")?;
            let name = found.as_str().ok_or(
                "oidc: error evaluating username claim expression: username claim expression must return a string",
            )?;
            if name.is_empty() {
                return Err("oidc: empty username via CEL expression is not allowed".into());
            }
            return Ok(name.to_owned());
        }
        Mapping::Claim { name, prefix } => (name, prefix),
    };
    let found = text(claims, name).map_err(|why| format!("oidc: parse username claims {name:?}: {why}"))?;
    if name == "email" {
        // An address that nobody has verified may be anybody's (OpenID Connect Core 1.0, section 5.1).
        match claims.get("email_verified") {
            None | Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err("oidc: email not verified".into()),
            Some(_) => return Err("oidc: parse 'email_verified' claim: not a boolean".into()),
        }
    }
    Ok(format!("{prefix}{found}"))
}

fn groups(mapping: Option<&Mapping>, claims: &Value) -> Result<Vec<String>, String> {
    match mapping {
        None => Ok(Vec::new()),
        Some(Mapping::Expression(expression)) => list(&evaluate(expression, claims, "group claim")?)
            .map_err(|why| format!("oidc: error evaluating group claim expression: {why}")),
        Some(Mapping::Claim { name, prefix }) => {
            let Some(found) = claims.get(name) else { return Ok(Vec::new()) };
            let groups = match found {
                Value::String(one) => vec![one.clone()],
                Value::Array(many) => many
                    .iter()
                    .map(|one| one.as_str().map(str::to_owned))
                    .collect::<Option<_>>()
                    .ok_or_else(|| format!("oidc: parse groups claim {name:?}: not a list of strings"))?,
                _ => {
                    return Err(format!(
                        "oidc: parse groups claim {name:?}: not a string or a list of strings"
                    ));
                }
            };
            Ok(groups.into_iter().map(|group| format!("{prefix}{group}")).collect())
        }
    }
}

/// A text or a list of texts, empty ones left out.
fn list(value: &Value) -> Result<Vec<String>, String> {
    let wrong = || "expression must return a string or a list of strings".to_owned();
    let texts = match value {
        Value::Null => Vec::new(),
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many
            .iter()
            .map(|one| one.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
}

fn check(rules: &[Rule], variable: (&str, &Value), what: &str) -> Result<(), String> {
    for Rule { expression, message } in rules {
        let fail = |why: String| Err(format!("oidc: error evaluating {what}: {why}"));
        match expression.evaluate(&[variable]) {
            Ok(Value::Bool(true)) => {}
            Ok(Value::Bool(false)) => {
                return fail(format!("validation expression '{}' failed: {message}", expression.source()));
            }
            Ok(_) => return fail("validation expression must return a boolean".into()),
            Err(why) => {
                return fail(format!("expression '{}' resulted in error: {why}", expression.source()));
            }
        }
    }
    Ok(())
}
