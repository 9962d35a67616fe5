//! `skep-control backup`, `restore` and `migrate`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, bail};
use skep_store::migrate::{Migrated, migrate};
use skep_store::sqlite;

use crate::flags::{BackupArguments, Direction, MigrateArguments, RestoreArguments};
use crate::store;

/// Everything that is the cluster's lies under this.
const ROOT: &str = "/registry/";

/// Makes the data directory as a control plane does: for its owner only.
fn make_private(folder: &Path) -> anyhow::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).with_context(|| format!("cannot make {}", folder.display()))
}

pub(crate) fn backup(arguments: &BackupArguments) -> anyhow::Result<()> {
    let from = store::file(&arguments.data_dir);
    if !from.exists() {
        bail!(
            "{} holds no embedded store: pass the control plane's --data-dir",
            arguments.data_dir.display()
        );
    }
    let copied = sqlite::backup(&from, &arguments.out)
        .with_context(|| format!("cannot back up {}", from.display()))?;
    println!("{}: {} keys at revision {}, verified", arguments.out.display(), copied.keys, copied.revision.0);
    println!("Not in it: the keys and certificates in {}/pki", arguments.data_dir.display());
    Ok(())
}

pub(crate) fn restore(arguments: &RestoreArguments) -> anyhow::Result<()> {
    let to = store::file(&arguments.data_dir);
    make_private(&arguments.data_dir)?;
    let copied = sqlite::restore(&arguments.from, &to)
        .with_context(|| format!("cannot restore {}", arguments.from.display()))?;
    println!("{}: {} keys, goes on at revision {}, verified", to.display(), copied.keys, copied.revision.0);
    Ok(())
}

pub(crate) async fn move_state(arguments: &MigrateArguments) -> anyhow::Result<()> {
    let path = store::file(&arguments.data_dir);
    if arguments.etcd.etcd_endpoints.is_empty() {
        bail!("say which etcd: --etcd-endpoints URL[,URL...]");
    }
    if arguments.to == Direction::Etcd && !path.exists() {
        bail!(
            "{} holds no embedded store: pass the control plane's --data-dir",
            arguments.data_dir.display()
        );
    }
    let etcd = store::etcd(&arguments.etcd).await?;
    make_private(&arguments.data_dir)?;
    let embedded = store::embedded(&arguments.data_dir, None).await?;
    let moved = match arguments.to {
        Direction::Etcd => migrate(&embedded, &etcd, ROOT).await?,
        Direction::Embedded => {
            let moved = migrate(&etcd, &embedded, ROOT).await?;
            drop(embedded);
            // Who has seen the revisions of etcd must find later ones here.
            sqlite::continue_after(&path, moved.source)?;
            moved
        }
    };
    let Migrated { keys, source, .. } = moved;
    println!("{keys} keys as of revision {} are the same in both; the source was not changed", source.0);
    Ok(())
}
