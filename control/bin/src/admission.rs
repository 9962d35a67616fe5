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
    /// Seconds for which pods stay on a node that is not ready, unless they say otherwise.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) default_not_ready_toleration_seconds: i64,
    /// Seconds for which pods stay on a node that does not answer, unless they say otherwise.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) default_unreachable_toleration_seconds: i64,
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
        let nowhere = AdmissionArguments {
            admission_control_config_file: Some("/nowhere/admission.yaml".into()),
            ..server.admission
        };
        assert!(nowhere.config().is_err());
    }
}
