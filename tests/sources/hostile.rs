//! Repositories and archives that are made to do what only a host should.

use super::*;

/// What git would run, if it took any of this from a repository.
#[tokio::test]
async fn a_repository_runs_nothing_while_it_is_fetched() {
    let host = Host::new();
    let touch = "touch /srv/ran";
    host.repository("eager", &|tree| {
        write(tree, "package.json", r#"{"name":"x","bin":"index.mjs"}"#);
        write(tree, "index.mjs", SERVER);
        write(
            tree,
            ".gitattributes",
            "* filter=evil diff=evil merge=evil ident export-subst\n",
        );
        let evil = format!(
            "[core]\n\tfsmonitor = {touch}\n\thooksPath = hooks\n\tsshCommand = {touch}\n\
             [filter \"evil\"]\n\tsmudge = {touch}\n\tclean = {touch}\n\tprocess = {touch}\n\
             [alias]\n\trev-parse = !{touch}\n"
        );
        // A file of settings, and a directory that git could take for a repository.
        for path in [".gitconfig", "config", ".lfsconfig"] {
            write(tree, path, &evil);
        }
        write(tree, "HEAD", "ref: refs/heads/main\n");
        for folder in ["objects/info/kept", "refs/heads/kept"] {
            write(tree, folder, "");
        }
        for hook in [
            "post-checkout",
            "post-merge",
            "reference-transaction",
            "fsmonitor-watchman",
        ] {
            let path = format!("hooks/{hook}");
            write(tree, &path, &format!("#!/bin/sh\n{touch}\n"));
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(tree.join(path), open).unwrap();
        }
    });
    let house = host.house().await;
    let source = format!("git:https://127.0.0.1:{}/git/eager.git", host.port);
    let found = house.inspect(&ask(&source)).await.unwrap();
    let home = house.home("eager");
    let done = house.install(&found, &home, None).await.unwrap();
    assert!(
        home.path.join("app/hooks/post-checkout").is_file(),
        "control: it is there"
    );
    assert!(!home.path.join("ran").exists(), "{:?}", done.lines);
    assert!(
        house
            .answers(&home, &done.installed, &[])
            .await
            .contains("echo")
    );
}

/// A commit whose tree has a `.git` of its own, with a hook: git itself would not make one.
#[tokio::test]
async fn a_repository_brings_no_git_directory_of_its_own() {
    let host = Host::new();
    host.repository("plain", &|tree| write(tree, "index.js", ""));
    let bare = host.place.path().join("git/plain.git");
    let script = "hook=$(printf '#!/bin/sh\\ntouch /srv/ran\\n' | git hash-object -w --stdin)
        hooks=$(printf '100755 blob %s\\tpost-checkout\\n' $hook | git mktree)
        dot=$(printf '040000 tree %s\\thooks\\n' $hooks | git mktree)
        tree=$(printf '040000 tree %s\\t.git\\n' $dot | git mktree)
        commit=$(git -c user.name=t -c user.email=t@t.example commit-tree -m two $tree)
        git update-ref refs/heads/main $commit && git ls-tree -r --name-only main";
    let listed = run(&bare, "sh", &["-c", script]);
    assert_eq!(
        listed, ".git/hooks/post-checkout",
        "control: the commit is there"
    );
    let house = host.house().await;
    let source = format!("git:https://127.0.0.1:{}/git/plain.git", host.port);
    let failure = house.inspect(&ask(&source)).await.unwrap_err();
    assert!(failure.sentence.contains("could not fetch"), "{failure:?}");
}

/// By `..`, by an absolute path, and through a link that an earlier member made.
#[tokio::test]
async fn an_archive_writes_nothing_outside_of_its_place() {
    let host = Host::new();
    let manifest = r#"{"name":"slippery","version":"1.0.0","bin":"index.mjs"}"#;
    host.package(
        "slippery",
        &[("package.json", manifest), ("index.mjs", SERVER)],
    );
    let outside = host.place.path().join("escaped-absolute");
    let script = r#"
import base64, hashlib, io, json, sys, tarfile
place, outside, members = sys.argv[1], sys.argv[2], []
packed = f"{place}/npm/slippery-1.0.0.tgz"
with tarfile.open(packed) as before:
    members = [(member, before.extractfile(member).read()) for member in before if member.isfile()]
with tarfile.open(packed, "w:gz") as after:
    def add(name, content, link=None):
        member = tarfile.TarInfo(name)
        if link:
            member.type, member.linkname = tarfile.SYMTYPE, link
            return after.addfile(member)
        member.size = len(content)
        after.addfile(member, io.BytesIO(content))
    for member, content in members:
        add(member.name, content)
    up = "../" * 12
    add("package/" + up + "srv/escaped-up", b"escaped")
    add("package/" + up + "tmp/escaped-up", b"escaped")
    add(outside, b"escaped")
    add("package/way", b"", link="/srv")
    add("package/way/escaped-by-link", b"escaped")
    add("package/back", b"", link="../../..")
    add("package/back/escaped-by-link", b"escaped")
with open(packed, "rb") as file:
    digest = base64.b64encode(hashlib.sha512(file.read()).digest()).decode()
path = f"{place}/npm/slippery.json"
with open(path) as file:
    about = json.load(file)
about["versions"]["1.0.0"]["dist"]["integrity"] = f"sha512-{digest}"
with open(path, "w") as file:
    json.dump(about, file)
print(len(tarfile.open(packed).getnames()))
"#;
    let place = host.place.path().display().to_string();
    let made = run(
        host.place.path(),
        "python3",
        &["-c", script, &place, &outside.display().to_string()],
    );
    assert_eq!(made, "9", "control: the members are there");
    let house = host.house().await;
    let mut with_key = ask("npm:slippery@1.0.0");
    with_key.fetch_key = Some(FETCH_KEY.into());
    let home = house.home("slippery");
    // Whether such a package is refused or installed without these members is the unpacker's matter.
    match house.inspect(&with_key).await {
        Ok(found) => {
            if let Err(failure) = house.install(&found, &home, Some(FETCH_KEY)).await {
                println!("not installed: {}", failure.sentence);
            }
        }
        Err(failure) => println!("not looked at: {}", failure.sentence),
    }
    assert!(!outside.exists());
    // Within its place is where an unpacker may put what it has made harmless.
    let mut waiting = vec![house.place.path().to_owned()];
    for folder in ["/tmp", "/srv"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(!name.starts_with("escaped"), "{}", entry.path().display());
        }
    }
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_out = entry.file_name().to_string_lossy().starts_with("escaped");
            let is_within = ["/look/package/", "/node_modules/slippery/"]
                .iter()
                .any(|place| path.to_string_lossy().contains(place));
            assert!(!is_out || is_within, "{}", path.display());
            if entry.file_type().unwrap().is_dir() {
                waiting.push(path);
            }
        }
    }
}
