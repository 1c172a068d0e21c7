//! nginx in front of php-fpm, as on the hosts where the apps live.

use crate::common::{PATIENCE, wait_until};
use crate::port::free_port;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Two sites: `open`, whose `open_basedir` includes the outputs, and `shut`, confined to its own files.
pub(crate) struct Web {
    nginx: Child,
    fpm: Child,
    root: PathBuf,
    port: u16,
}

/// The path of php-fpm, which carries its version in its name.
pub(crate) fn php_fpm() -> Option<PathBuf> {
    let mut found: Vec<_> = fs::read_dir("/usr/sbin")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("php-fpm"))
        })
        .collect();
    found.sort();
    found.pop()
}

impl Web {
    /// Starts both, with all their files below `root`; pages run as www-data.
    pub(crate) fn start(root: &Path, outputs: &Path) -> Self {
        let root = root.to_path_buf();
        let port = free_port();
        let (web, out) = (root.display(), outputs.display());
        for site in ["open", "shut"] {
            fs::create_dir_all(root.join(site)).unwrap();
        }
        let pools = [
            ("open", format!("{web}/open:{out}")),
            ("shut", format!("{web}/shut")),
        ]
        .map(|(site, allowed)| {
            format!(
                "[{site}]\nuser = www-data\nlisten = {web}/{site}.sock\nlisten.owner = www-data\n\
                 pm = static\npm.max_children = 4\nphp_admin_value[open_basedir] = {allowed}\n\
                 php_admin_flag[opcache.enable] = on\n"
            )
        });
        let fpm = format!("[global]\nerror_log = {web}/fpm.log\n{}", pools.concat());
        fs::write(root.join("fpm.conf"), fpm).unwrap();
        let sites = ["open", "shut"].map(|site| {
            format!(
                "location /{site}/ {{ fastcgi_pass unix:{web}/{site}.sock;\n\
                 fastcgi_param SCRIPT_FILENAME {web}$fastcgi_script_name;\n\
                 fastcgi_param REQUEST_METHOD $request_method; }}\n"
            )
        });
        fs::write(
            root.join("nginx.conf"),
            format!(
                "daemon off; user www-data; pid {web}/nginx.pid; error_log {web}/nginx.log; events {{ }}\n\
                 http {{ access_log off; client_body_temp_path {web}/t1; proxy_temp_path {web}/t2;\n\
                 fastcgi_temp_path {web}/t3; uwsgi_temp_path {web}/t4; scgi_temp_path {web}/t5;\n\
                 server {{ listen 127.0.0.1:{port};\n{} }} }}\n",
                sites.concat()
            ),
        )
        .unwrap();
        let fpm = Command::new(php_fpm().unwrap())
            .args(["--nodaemonize", "--force-stderr", "--fpm-config"])
            .arg(root.join("fpm.conf"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Command::new("nginx")
            .arg("-c")
            .arg(root.join("nginx.conf"))
            .args(["-e", "stderr"])
            .spawn()
            .unwrap();
        let web = Self {
            nginx,
            fpm,
            root,
            port,
        };
        let log = || format!("see {}", web.root.display());
        wait_until("php-fpm and nginx listen", PATIENCE, log, || {
            UnixStream::connect(web.root.join("open.sock")).is_ok()
                && UnixStream::connect(web.root.join("shut.sock")).is_ok()
                && TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        web
    }

    /// Puts a page on a site that shows what `expression` gives once `example` is loaded, or `! why`. Says its URL.
    pub(crate) fn page(&self, site: &str, example: &Path, expression: &str) -> String {
        let name = example.file_name().unwrap().to_str().unwrap();
        let dir = self.root.join(site);
        fs::copy(example, dir.join(name)).unwrap();
        let page = format!(
            "<?php\nrequire __DIR__ . '/{name}';\ntry {{\n    echo {expression}, \"\\n\";\n\
             }} catch (RuntimeException $error) {{\n    echo '! ', $error->getMessage(), \"\\n\";\n}}\n"
        );
        fs::write(dir.join(format!("page_{name}")), page).unwrap();
        format!("http://127.0.0.1:{}/{site}/page_{name}", self.port)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        for child in [&mut self.nginx, &mut self.fpm] {
            // Its own end, so that its workers end too.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
            let _ = child.wait();
        }
    }
}
