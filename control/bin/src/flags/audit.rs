//! The flags of auditing, under upstream's names and with upstream's defaults.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{ArgAction, Args, ValueEnum};
use skep_server::audit::{
    AuditOptions, BatchOptions, Format, LogOptions, Mode, OutputOptions, Rotation, TruncateOptions,
    WebhookOptions,
};
use skep_server::duration;

const MEGABYTE: u64 = 1024 * 1024;

/// Whether requests wait for their events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditMode {
    /// No; events may be lost.
    Batch,
    /// Yes, but they go on when an event cannot be written.
    Blocking,
    /// Yes, and they are refused when their first event cannot be written.
    BlockingStrict,
}

impl From<AuditMode> for Mode {
    fn from(mode: AuditMode) -> Self {
        match mode {
            AuditMode::Batch => Self::Batch,
            AuditMode::Blocking => Self::Blocking,
            AuditMode::BlockingStrict => Self::BlockingStrict,
        }
    }
}

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditFormat {
    /// One JSON object per line.
    Json,
    /// One line of text, without objects.
    Legacy,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    /// What is written down about requests (`audit.k8s.io/v1 Policy`); nothing is without it.
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) log: AuditLogArguments,
    #[command(flatten)]
    pub(crate) webhook: AuditWebhookArguments,
}

#[derive(Debug, Args)]
pub(crate) struct AuditLogArguments {
    /// The file that audit events are written to; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// Days that files put aside are kept; 0 means for ever.
    #[arg(long, value_name = "DAYS", default_value_t = 366)]
    pub(crate) audit_log_maxage: u32,
    /// How many files put aside are kept; 0 means all.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub(crate) audit_log_maxbackup: usize,
    /// Megabytes of a file before it is put aside; 0 means that it never is.
    #[arg(long, value_name = "MEGABYTES", default_value_t = 100)]
    pub(crate) audit_log_maxsize: u64,
    /// The form of the lines.
    #[arg(long, value_enum, default_value_t = AuditFormat::Json)]
    pub(crate) audit_log_format: AuditFormat,
    /// The group and version of events.
    #[arg(long, value_name = "VERSION", default_value = "audit.k8s.io/v1", value_parser = ["audit.k8s.io/v1"])]
    pub(crate) audit_log_version: String,
    /// Compress files put aside.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) audit_log_compress: bool,
    /// Whether requests wait for their events.
    #[arg(long, value_enum, default_value_t = AuditMode::Blocking)]
    pub(crate) audit_log_mode: AuditMode,
    /// In batch mode: so many events may wait.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    pub(crate) audit_log_batch_buffer_size: usize,
    /// In batch mode: so many are written at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) audit_log_batch_max_size: usize,
    /// In batch mode: so long the first of them waits.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub(crate) audit_log_batch_max_wait: Duration,
    /// In batch mode: limit the batches per second.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) audit_log_batch_throttle_enable: bool,
    /// In batch mode: so many batches per second.
    #[arg(long, value_name = "NUMBER", default_value_t = 10.0)]
    pub(crate) audit_log_batch_throttle_qps: f32,
    /// In batch mode: so many batches at once after a pause.
    #[arg(long, value_name = "NUMBER", default_value_t = 15)]
    pub(crate) audit_log_batch_throttle_burst: u32,
    /// Cut down events that are too large.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) audit_log_truncate_enabled: bool,
    /// Bytes of a batch before it is split.
    #[arg(long, value_name = "BYTES", default_value_t = 10 * 1024 * 1024)]
    pub(crate) audit_log_truncate_max_batch_size: usize,
    /// Bytes of an event before its objects are left out.
    #[arg(long, value_name = "BYTES", default_value_t = 100 * 1024)]
    pub(crate) audit_log_truncate_max_event_size: usize,
}

#[derive(Debug, Args)]
pub(crate) struct AuditWebhookArguments {
    /// A kubeconfig file of the webhook that audit events are sent to.
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_webhook_config_file: Option<PathBuf>,
    /// The pause before a batch that failed is sent again for the first time.
    #[arg(long, alias = "audit-webhook-batch-initial-backoff", value_name = "TIME", default_value = "10s",
        value_parser = duration::parse)]
    pub(crate) audit_webhook_initial_backoff: Duration,
    /// The group and version of events.
    #[arg(long, value_name = "VERSION", default_value = "audit.k8s.io/v1", value_parser = ["audit.k8s.io/v1"])]
    pub(crate) audit_webhook_version: String,
    /// Whether requests wait for their events.
    #[arg(long, value_enum, default_value_t = AuditMode::Batch)]
    pub(crate) audit_webhook_mode: AuditMode,
    /// In batch mode: so many events may wait.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    pub(crate) audit_webhook_batch_buffer_size: usize,
    /// In batch mode: so many are sent at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 400)]
    pub(crate) audit_webhook_batch_max_size: usize,
    /// In batch mode: so long the first of them waits.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub(crate) audit_webhook_batch_max_wait: Duration,
    /// In batch mode: limit the batches per second.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) audit_webhook_batch_throttle_enable: bool,
    /// In batch mode: so many batches per second.
    #[arg(long, value_name = "NUMBER", default_value_t = 10.0)]
    pub(crate) audit_webhook_batch_throttle_qps: f32,
    /// In batch mode: so many batches at once after a pause.
    #[arg(long, value_name = "NUMBER", default_value_t = 15)]
    pub(crate) audit_webhook_batch_throttle_burst: u32,
    /// Cut down events that are too large.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) audit_webhook_truncate_enabled: bool,
    /// Bytes of a batch before it is split.
    #[arg(long, value_name = "BYTES", default_value_t = 10 * 1024 * 1024)]
    pub(crate) audit_webhook_truncate_max_batch_size: usize,
    /// Bytes of an event before its objects are left out.
    #[arg(long, value_name = "BYTES", default_value_t = 100 * 1024)]
    pub(crate) audit_webhook_truncate_max_event_size: usize,
}

impl AuditWebhookArguments {
    fn options(&self) -> anyhow::Result<Option<WebhookOptions>> {
        let Some(kubeconfig) = self.audit_webhook_config_file.clone() else { return Ok(None) };
        let batch = BatchOptions {
            buffer: self.audit_webhook_batch_buffer_size,
            max_size: self.audit_webhook_batch_max_size,
            max_wait: self.audit_webhook_batch_max_wait,
            throttle: self
                .audit_webhook_batch_throttle_enable
                .then_some((self.audit_webhook_batch_throttle_qps, self.audit_webhook_batch_throttle_burst)),
            in_parallel: true,
        };
        let limits = TruncateOptions {
            max_event: self.audit_webhook_truncate_max_event_size,
            max_batch: self.audit_webhook_truncate_max_batch_size,
        };
        let truncate = self.audit_webhook_truncate_enabled.then_some(limits);
        let output = OutputOptions { mode: self.audit_webhook_mode.into(), batch, truncate };
        check("webhook", &output)?;
        let initial_backoff = self.audit_webhook_initial_backoff;
        Ok(Some(WebhookOptions { kubeconfig, initial_backoff, output }))
    }
}

impl AuditArguments {
    /// What these flags ask for.
    ///
    /// # Errors
    ///
    /// When they contradict each other.
    pub(crate) fn options(&self) -> anyhow::Result<AuditOptions> {
        let (log, webhook) = (self.log.options()?, self.webhook.options()?);
        Ok(AuditOptions { policy: self.audit_policy_file.clone(), log, webhook })
    }
}

impl AuditLogArguments {
    fn options(&self) -> anyhow::Result<Option<LogOptions>> {
        let Some(path) = self.audit_log_path.clone() else { return Ok(None) };
        let batch = BatchOptions {
            buffer: self.audit_log_batch_buffer_size,
            max_size: self.audit_log_batch_max_size,
            max_wait: self.audit_log_batch_max_wait,
            throttle: self
                .audit_log_batch_throttle_enable
                .then_some((self.audit_log_batch_throttle_qps, self.audit_log_batch_throttle_burst)),
            in_parallel: false,
        };
        let limits = TruncateOptions {
            max_event: self.audit_log_truncate_max_event_size,
            max_batch: self.audit_log_truncate_max_batch_size,
        };
        let truncate = self.audit_log_truncate_enabled.then_some(limits);
        let output = OutputOptions { mode: self.audit_log_mode.into(), batch, truncate };
        check("log", &output)?;
        let rotation = Rotation {
            max_size: self.audit_log_maxsize * MEGABYTE,
            max_age: self.audit_log_maxage,
            max_backups: self.audit_log_maxbackup,
            compress: self.audit_log_compress,
        };
        let format = match self.audit_log_format {
            AuditFormat::Json => Format::Json,
            AuditFormat::Legacy => Format::Legacy,
        };
        Ok(Some(LogOptions { path, rotation, format, output }))
    }
}

/// Refuses what no backend can work with, in upstream's words.
pub(super) fn check(plugin: &str, output: &OutputOptions) -> anyhow::Result<()> {
    let OutputOptions { mode, batch, truncate } = output;
    if *mode == Mode::Batch {
        if batch.buffer == 0 {
            bail!("invalid audit batch {plugin} buffer size 0, must be a positive number");
        }
        if batch.max_size == 0 {
            bail!("invalid audit batch {plugin} max batch size 0, must be a positive number");
        }
        if let Some((rate, _)) = batch.throttle.filter(|(rate, _)| rate.is_nan() || *rate <= 0.0) {
            bail!("invalid audit batch {plugin} throttle QPS {rate}, must be a positive number");
        }
        if batch.throttle.is_some_and(|(_, burst)| burst == 0) {
            bail!("invalid audit batch {plugin} throttle burst 0, must be a positive number");
        }
    }
    if let Some(limits) = truncate {
        if limits.max_event == 0 {
            bail!("invalid audit truncate {plugin} max event size 0, must be a positive number");
        }
        if limits.max_batch < limits.max_event {
            bail!(
                "invalid audit truncate {plugin} max batch size {}, must be greater than max event size ({})",
                limits.max_batch,
                limits.max_event
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        audit: AuditArguments,
    }

    fn options(line: &str) -> anyhow::Result<AuditOptions> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().audit.options()
    }

    #[test]
    fn log_has_upstreams_defaults() {
        assert!(options("").unwrap().log.is_none());
        let log = options("--audit-log-path=/var/log/audit.log").unwrap().log.unwrap();
        assert_eq!(log.output.mode, Mode::Blocking);
        assert!(log.output.truncate.is_none() && log.output.batch.throttle.is_none());
        let Rotation { max_size, max_age, max_backups, compress } = log.rotation;
        assert_eq!((max_size, max_age, max_backups, compress), (104_857_600, 366, 100, false));
    }

    #[test]
    fn flags_of_an_upstream_manifest_are_taken() {
        let line = "--audit-policy-file=/etc/policy.yaml --audit-log-path=- --audit-log-maxage=30 --audit-log-maxbackup=10 \
                    --audit-log-maxsize=200 --audit-log-mode=blocking-strict --audit-log-format=legacy \
                    --audit-log-truncate-enabled=true --audit-log-compress --audit-log-batch-max-wait=5s";
        let log = options(line).unwrap().log.unwrap();
        assert_eq!((log.output.mode, log.format), (Mode::BlockingStrict, Format::Legacy));
        assert!(log.rotation.compress && log.output.truncate.is_some());
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "--audit-log-path=x --audit-log-mode=batch --audit-log-batch-buffer-size=0",
            "--audit-log-path=x --audit-log-mode=batch --audit-log-batch-max-size=0",
            "--audit-log-path=x --audit-log-truncate-enabled --audit-log-truncate-max-batch-size=5",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
    }
}
