//! The daemon's binary, where every user may run it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The binary of this build. Where the clone lies below a directory that other users may not enter, a copy of it.
pub fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_wxtokend"));
        if built.ancestors().skip(1).all(may_be_entered) {
            return built.to_owned();
        }
        let directory = std::env::temp_dir().join("wxtokend-tests");
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        // Test programs may make it at the same time, so it is put in place whole.
        let new = directory.join(format!("new-{}", std::process::id()));
        fs::copy(built, &new).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        let copy = directory.join("wxtokend");
        fs::rename(new, &copy).unwrap();
        copy
    });
    &PROGRAM
}

fn may_be_entered(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
}
