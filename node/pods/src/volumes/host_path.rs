//! `hostPath` volumes: their `type` says what must be there, or is made.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// Makes what the type asks for and checks the rest.
///
/// # Errors
/// A text for the user.
pub(super) fn check(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let make = |result: std::io::Result<()>| result.map_err(|error| format!("{}: {error}", source.path));
    if kind == "DirectoryOrCreate" && !path.exists() {
        make(fs::create_dir_all(path))?;
        make(fs::set_permissions(path, fs::Permissions::from_mode(0o755)))?;
    }
    if kind == "FileOrCreate" && !path.exists() {
        make(fs::write(path, b""))?;
        make(fs::set_permissions(path, fs::Permissions::from_mode(0o644)))?;
    }
    let found = fs::metadata(path).map(|metadata| metadata.file_type());
    let fits = |test: fn(&fs::FileType) -> bool| found.as_ref().is_ok_and(test);
    let fine = match kind {
        "DirectoryOrCreate" | "Directory" => fits(fs::FileType::is_dir),
        "FileOrCreate" | "File" => fits(fs::FileType::is_file),
        "Socket" => fits(FileTypeExt::is_socket),
        "CharDevice" => fits(FileTypeExt::is_char_device),
        "BlockDevice" => fits(FileTypeExt::is_block_device),
        _ => true,
    };
    if fine { Ok(()) } else { Err(format!("hostPath type check failed: {} is not a {kind}", source.path)) }
}
