//! The versions that reviews have: the questions that webhooks are asked, of whatever kind.

use serde_json::Value;

/// A version of a review.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReviewVersion {
    /// The one before. Answers of conversion and admission in it do not say what they answer.
    #[default]
    V1beta1,
    /// The present one.
    V1,
}

impl ReviewVersion {
    /// The version of that name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "v1beta1" => Some(Self::V1beta1),
            "v1" => Some(Self::V1),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1beta1 => "v1beta1",
            Self::V1 => "v1",
        }
    }

    /// The first that is known of those that a webhook accepts; the present one where none is.
    pub fn first_of(accepted: &[Value]) -> Self {
        accepted.iter().find_map(|version| Self::parse(version.as_str()?)).unwrap_or(Self::V1)
    }

    /// The `apiVersion` of a review of this group.
    pub fn of_group(self, group: &str) -> String {
        format!("{group}/{}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn first_known_version_of_a_webhook_counts() {
        let first = |accepted: &[&str]| {
            ReviewVersion::first_of(&accepted.iter().map(|one| json!(one)).collect::<Vec<_>>())
        };
        assert_eq!(first(&["v9", "v1beta1", "v1"]), ReviewVersion::V1beta1);
        assert_eq!(first(&["v1", "v1beta1"]), ReviewVersion::V1);
        assert_eq!(first(&[]), ReviewVersion::V1);
        assert_eq!(ReviewVersion::parse("v2"), None);
        assert_eq!(ReviewVersion::V1.of_group("a.b"), "a.b/v1");
    }
}
