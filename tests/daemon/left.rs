//! Outputs that are configured no more go, also when the daemon did not run while that was changed.

use crate::common::{Bench, Freshness, ReadFrom, json, read_socket};
use crate::fixture::{SECRET, account, appid, bench, in_file, names, platform, shop};
use std::fs;
use wxtokend::sim::World;

fn blog(world: &mut World) {
    world.account(&appid(1), SECRET);
}

/// The outputs that are there.
fn outputs(bench: &Bench) -> Vec<String> {
    let mut names = names(&bench.path("run"));
    names.retain(|name| name != "api.sock");
    names
}

#[test]
fn restart_removes_outputs_that_are_configured_no_more() {
    let (bench, platform) = (bench(), platform(blog));
    let both = shop("") + &account("blog", &appid(1), "");
    bench.configure(&platform, &both);
    bench.start().terminate();
    // The service manager keeps the sockets.
    let all = ["blog.json", "blog.sock", "shop.json", "shop.sock"];
    assert_eq!(outputs(&bench), all);
    assert!(names(&bench.path("state")).contains(&"outputs".to_owned()));

    // A configuration that is refused changes nothing.
    bench.configure(&platform, "[accounts.shop]\nnonsense = true\n");
    assert_eq!(bench.spawn().wait().code(), Some(78));
    assert_eq!(outputs(&bench), all);

    // One account less, and of the other one output.
    let text = shop("").replace("run/shop.sock", "run/other.sock");
    bench.configure(&platform, &text);
    let file = ReadFrom::File(bench.path("run/shop.json"), json);
    let readers = Freshness::watch(&platform, &[file]);
    let daemon = bench.start();
    readers.wait_for_rounds(2);
    readers.stop().assert_always_fresh(0);
    assert_eq!(outputs(&bench), ["other.sock", "shop.json"]);
    for gone in ["blog.json", "blog.sock", "shop.sock"] {
        let said = format!("/run/{gone}` is configured no more and is removed");
        daemon.wait_until(&said, || daemon.log().matches(&said).count() == 1);
    }
    assert!(!names(&bench.path("state")).contains(&"outputs".to_owned()));
    daemon.terminate();
}

#[test]
fn file_that_somebody_else_put_there_stays() {
    let (bench, platform) = (bench(), platform(blog));
    let keys = ["a", "b", "c"]
        .map(|name| format!("[[accounts.blog.file]]\npath = \"{{dir}}/run/{name}.json\"\n"));
    bench.configure(
        &platform,
        &(shop("") + &account("blog", &appid(1), "") + &keys.concat()),
    );
    bench.start().terminate();
    let path = |name: &str| bench.path("run").join(name);
    fs::remove_file(path("blog.json")).unwrap();
    fs::write(path("blog.json"), "mine").unwrap();
    fs::copy(path("a.json"), path("copy")).unwrap();
    fs::rename(path("copy"), path("a.json")).unwrap();
    fs::remove_file(path("b.json")).unwrap();
    fs::create_dir(path("b.json")).unwrap();
    // The path of one is that of another account's now.
    let taken = "[[accounts.shop.file]]\npath = \"{dir}/run/c.json\"\n";
    bench.configure(&platform, &(shop("") + taken));
    let daemon = bench.start();
    assert_eq!(
        outputs(&bench),
        [
            "a.json",
            "b.json",
            "blog.json",
            "c.json",
            "shop.json",
            "shop.sock"
        ]
    );
    assert_eq!(fs::read_to_string(path("blog.json")).unwrap(), "mine");
    assert_eq!(in_file(&bench, "c"), in_file(&bench, "shop"));
    assert!(!read_socket(&path("shop.sock")).unwrap().is_empty());
    daemon.terminate();
}

#[test]
fn restart_after_a_kill_removes_no_unknown_file() {
    let (bench, platform) = (bench(), platform(blog));
    let both = shop("") + &account("blog", &appid(1), "");
    bench.configure(&platform, &both);
    bench.start().terminate();
    // It published anew, and noted nothing.
    fs::remove_file(bench.path("run/blog.json")).unwrap();
    bench.start().kill();
    bench.configure(&platform, &shop(""));
    let daemon = bench.start();
    assert!(outputs(&bench).contains(&"blog.json".to_owned()));
    daemon.terminate();
}
