//! C# on Mono, old and still in use, and on .NET.

use crate::LegacyStage;
use crate::common::output_of;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The directory where `tests/run` puts .NET.
const DOTNET: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/target/dotnet/dnv/net/runtime/.net"
);
const SQLITE: &str = "/usr/lib/mono/4.5/Mono.Data.Sqlite.dll";

/// The missing parts besides Mono itself.
pub(crate) fn missing() -> impl Iterator<Item = &'static str> {
    let needed = [(SQLITE, "Mono.Data.Sqlite"), (DOTNET, ".NET")];
    let missing = needed
        .into_iter()
        .filter(|(path, _)| !Path::new(path).exists());
    missing.map(|(_, name)| name)
}

impl LegacyStage {
    /// The C# examples on Mono in a loop: the class, the method and its arguments.
    pub(crate) fn mono(&self, arguments: &[&str]) -> Command {
        let program = self.path("loop.exe");
        if !program.exists() {
            let libraries = [
                "Mono.Posix",
                "System.Core",
                "System.Data",
                "Mono.Data.Sqlite",
            ];
            let mut compiler = compiler(
                &program,
                &[
                    "packaging/examples/csharp",
                    "packaging/examples/database",
                    "tests/legacy",
                ],
            );
            compiler.args(libraries.map(|library| format!("-r:{library}.dll")));
            output_of(&mut compiler);
        }
        let mut command = self.program("mono");
        command
            .arg(program)
            .args(arguments.iter().map(|argument| self.expand(argument)));
        command
    }

    /// The C# examples on .NET, which have what Mono has not and lack what only Mono has.
    pub(crate) fn dotnet(&self, arguments: &[&str]) -> Command {
        let root = self.path("dotnet");
        let program = root.join("loop.dll");
        if !program.exists() {
            // Where every user can use it.
            output_of(Command::new("cp").arg("-r").arg(DOTNET).arg(&root));
            fs::set_permissions(root.join("dotnet"), fs::Permissions::from_mode(0o755)).unwrap();
            compile_for_dotnet(&root, &program);
        }
        let mut command = self.program(root.join("dotnet").to_str().unwrap());
        command
            .arg("exec")
            .arg(program)
            .args(arguments.iter().map(|argument| self.expand(argument)))
            // Neither the ICU library nor files in /tmp.
            .env("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "1")
            .env("DOTNET_EnableDiagnostics", "0");
        command
    }
}

/// With Mono's compiler, against the libraries of .NET.
fn compile_for_dotnet(root: &Path, program: &Path) {
    let versions = fs::read_dir(root.join("shared/Microsoft.NETCore.App")).unwrap();
    let version = versions.map(|entry| entry.unwrap()).next().unwrap();
    let core = "System.Private.CoreLib.dll";
    let mut compiler = compiler(
        program,
        &[
            "packaging/examples/csharp",
            "packaging/examples/dotnet",
            "tests/legacy",
        ],
    );
    compiler.args([
        "-noconfig",
        "-nostdlib",
        "-langversion:latest",
        "-define:NET",
    ]);
    for entry in fs::read_dir(version.path()).unwrap() {
        let entry = entry.unwrap();
        let mut path = entry.path();
        if path.extension().is_none_or(|extension| extension != "dll") {
            continue;
        }
        if entry.file_name() == core {
            // The compiler is older than fields that are references (`ref T`): to it they are pointers (`T*`).
            let mut library = fs::read(&path).unwrap();
            let (reference, pointer) = (b"\x04\x06\x10\x13\x00", b"\x04\x06\x0f\x13\x00");
            let at = library.windows(5).position(|bytes| bytes == reference);
            let at = at.expect("Span<T> has one");
            library[at..at + 5].copy_from_slice(pointer);
            path = root.join(core);
            fs::write(&path, library).unwrap();
        }
        compiler.arg(format!("-r:{}", path.display()));
    }
    output_of(&mut compiler);
    let version = version.file_name().into_string().unwrap();
    let framework = format!(
        r#"{{"runtimeOptions":{{"framework":{{"name":"Microsoft.NETCore.App","version":"{version}"}}}}}}"#
    );
    fs::write(program.with_extension("runtimeconfig.json"), framework).unwrap();
}

/// Mono's compiler, with all C# of directories of the repository.
fn compiler(program: &Path, directories: &[&str]) -> Command {
    let mut compiler = Command::new("mcs");
    compiler.arg(format!("-out:{}", program.display()));
    for directory in directories {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        compiler.args(
            fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "cs")),
        );
    }
    compiler
}

/// The first block of code of a language in the guide's page.
fn block(language: &str) -> &'static str {
    let guide = include_str!("../../packaging/guide/csharp.md");
    let (_, rest) = guide.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_guide_compiles_as_it_says() {
    if !crate::can_run("the_guide_compiles_as_it_says") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples/csharp");
    for entry in fs::read_dir(examples).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
    }
    let json = at("shop.json");
    fs::write(
        &json,
        r#"{"access_token":"57_token","expire_time":4102444799}"#,
    )
    .unwrap();
    let app = block("csharp").replace("/run/wxtokend/shop.json", json.to_str().unwrap());
    fs::write(at("App.cs"), app).unwrap();
    let mut commands = Command::new("sh");
    commands
        .args(["-euc", block("sh")])
        .current_dir(directory.path());
    assert_eq!(output_of(&mut commands), "57_token\n");
}
