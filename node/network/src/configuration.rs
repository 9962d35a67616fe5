//! What the container runtime reads and executes: the network's configuration and the plugin's names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::error::NetworkError;

/// The name that the runtime calls the plugin by.
pub const PLUGIN: &str = "skep-cni";
/// The name of the plugin for the loopback interface, which containerd calls beside every network.
pub const LOOPBACK: &str = "loopback";
/// The file that makes the runtime's network ready.
const FILE: &str = "10-skep.conflist";

/// Puts the plugin under its names into the runtime's folder. A `loopback` plugin that is there is kept.
pub fn install_plugin(folder: &Path, executable: &Path) -> Result<(), NetworkError> {
    fs::create_dir_all(folder).map_err(NetworkError::file("cannot make", folder))?;
    for name in [PLUGIN, LOOPBACK] {
        let link = folder.join(name);
        let ours = fs::read_link(&link).is_ok_and(|target| target == executable);
        let foreign = name == LOOPBACK && link.exists();
        if ours || foreign {
            continue;
        }
        let fresh = folder.join(format!(".{name}.new"));
        fs::remove_file(&fresh).ok();
        symlink(executable, &fresh).map_err(NetworkError::file("cannot link", &fresh))?;
        fs::rename(&fresh, &link).map_err(NetworkError::file("cannot replace", &link))?;
    }
    Ok(())
}

/// Writes the network's configuration, after which the runtime starts pods: to be called when addresses can be given.
pub fn write(folder: &Path, socket: &Path) -> Result<(), NetworkError> {
    fs::create_dir_all(folder).map_err(NetworkError::file("cannot make", folder))?;
    let configuration = json!({
        "cniVersion": "1.0.0",
        "name": "skep",
        "plugins": [{ "type": PLUGIN, "socket": socket }],
    });
    let path = folder.join(FILE);
    let fresh = folder.join(format!(".{FILE}.new"));
    fs::write(&fresh, format!("{configuration:#}\n")).map_err(NetworkError::file("cannot write", &fresh))?;
    fs::rename(&fresh, &path).map_err(NetworkError::file("cannot replace", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn install_plugin_keeps_a_foreign_loopback() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(LOOPBACK), "theirs").unwrap();
        for _ in 0..2 {
            install_plugin(folder.path(), Path::new("/bin/true")).unwrap();
        }
        assert_eq!(fs::read_to_string(folder.path().join(LOOPBACK)).unwrap(), "theirs");
        assert_eq!(fs::read_link(folder.path().join(PLUGIN)).unwrap(), Path::new("/bin/true"));
    }

    #[test]
    fn write_gives_the_runtime_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), Path::new("/run/skep/cni.sock")).unwrap();
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["plugins"][0]["socket"], "/run/skep/cni.sock");
    }
}
