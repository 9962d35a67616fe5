//! The flags of admission, with upstream's names and format.

use std::path::PathBuf;

use clap::Args;
use skep_server::{AdmissionConfig, ConfigError};

#[derive(Debug, Args)]
pub(crate) struct AdmissionArguments {
    /// Admission plug-ins that run besides the usual ones; order does not matter.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) enable_admission_plugins: Vec<String>,
    /// Admission plug-ins that do not run although they usually do.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) disable_admission_plugins: Vec<String>,
    /// What admission plug-ins are configured with (`AdmissionConfiguration`).
    #[arg(long, value_name = "FILE")]
    pub(crate) admission_control_config_file: Option<PathBuf>,
    /// Alpha features, by upstream's names: `NAME=true`.
    #[arg(long, value_name = "NAME=BOOL", value_delimiter = ',', value_parser = Gate::parse)]
    pub(crate) feature_gates: Vec<Gate>,
    /// Seconds for which pods stay on a node that is not ready, unless they say otherwise.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) default_not_ready_toleration_seconds: i64,
    /// Seconds for which pods stay on a node that does not answer, unless they say otherwise.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) default_unreachable_toleration_seconds: i64,
}

/// Upstream's feature gates that are ones here: webhooks and policies in files, by its name or with all that are alpha.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// `ManifestBasedAdmissionControlConfig`
    Manifests(bool),
    /// `AllAlpha`
    Alpha(bool),
    /// `AllBeta`: none that is beta is a gate here.
    Beta,
}

impl Gate {
    fn parse(text: &str) -> Result<Self, String> {
        let missing = || format!("missing bool value for {text}");
        let (name, value) = text.split_once('=').ok_or_else(missing)?;
        let is_on = match value.trim() {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => true,
            "false" | "False" | "FALSE" | "f" | "F" | "0" => false,
            _ => return Err(format!("invalid value of {name}={value}, err: it is no bool")),
        };
        match name.trim() {
            "ManifestBasedAdmissionControlConfig" => Ok(Self::Manifests(is_on)),
            "AllAlpha" => Ok(Self::Alpha(is_on)),
            "AllBeta" => Ok(Self::Beta),
            name => Err(format!("unrecognized feature gate: {name}")),
        }
    }

    /// Whether webhooks and policies may be in files. What is said of that alone counts more than what is said of all.
    fn in_force(gates: &[Self]) -> bool {
        let all = gates.iter().rev().find_map(|gate| match gate {
            Self::Alpha(is_on) => Some(*is_on),
            _ => None,
        });
        let own = gates.iter().rev().find_map(|gate| match gate {
            Self::Manifests(is_on) => Some(*is_on),
            _ => None,
        });
        own.or(all).unwrap_or(false)
    }
}

impl AdmissionArguments {
    /// What the flags and the file say. Whether the plug-ins exist and take it, the server checks.
    pub(crate) fn config(&self) -> Result<AdmissionConfig, ConfigError> {
        let named = |names: &[String]| names.iter().filter(|name| !name.is_empty()).cloned().collect();
        let mut config = AdmissionConfig::default();
        config.enable = named(&self.enable_admission_plugins);
        config.disable = named(&self.disable_admission_plugins);
        config.toleration_seconds =
            [self.default_not_ready_toleration_seconds, self.default_unreachable_toleration_seconds];
        config.manifests = Gate::in_force(&self.feature_gates);
        // It is only for telling servers apart.
        config.server =
            std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        if let Some(file) = &self.admission_control_config_file {
            config.read(file)?;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::flags::{Arguments, Command};

    #[test]
    fn plugins_are_named_by_upstreams_flags() {
        let line = "skep-control apiserver --enable-admission-plugins=PodNodeSelector,EventRateLimit \
                    --disable-admission-plugins= --enable-admission-plugins AlwaysAdmit \
                    --default-unreachable-toleration-seconds 30";
        let Command::Apiserver(server) = Arguments::try_parse_from(line.split_whitespace()).unwrap().command
        else {
            panic!("another command");
        };
        let config = server.admission.config().unwrap();
        assert_eq!(config.enable, ["PodNodeSelector", "EventRateLimit", "AlwaysAdmit"]);
        assert!(config.disable.is_empty());
        assert_eq!(config.toleration_seconds, [300, 30]);
        assert!(!config.manifests);
        let nowhere = AdmissionArguments {
            admission_control_config_file: Some("/nowhere/admission.yaml".into()),
            ..server.admission
        };
        assert!(nowhere.config().is_err());
    }

    #[test]
    fn feature_gates_are_upstreams_or_refused_by_name() {
        let parse = |text: &str| {
            let line = ["skep-control", "apiserver", "--feature-gates", text];
            match Arguments::try_parse_from(line).map(|parsed| parsed.command) {
                Ok(Command::Apiserver(server)) => Ok(server.admission.config().unwrap().manifests),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            }
        };
        for (text, expected) in [
            ("ManifestBasedAdmissionControlConfig=true", true),
            ("AllAlpha=true,AllBeta=false", true),
            ("AllAlpha=true,ManifestBasedAdmissionControlConfig=false", false),
            ("ManifestBasedAdmissionControlConfig=false,ManifestBasedAdmissionControlConfig=true", true),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for (text, why) in [
            ("Nothing=true", "unrecognized feature gate: Nothing"),
            ("AllAlpha", "missing bool value for AllAlpha"),
            ("AllAlpha=yes", "invalid value of AllAlpha=yes"),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
    }
}
