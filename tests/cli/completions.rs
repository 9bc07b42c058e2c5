//! What shells are given to complete with.

use crate::served::Shell;

#[tokio::test(flavor = "multi_thread")]
async fn shells_take_the_completions() {
    let shell = Shell::signed_out();
    for name in ["bash", "zsh", "fish"] {
        let said = shell.run(&["completions", name]).await.done();
        assert!(
            said.contains("bridge") && said.contains("rollback") && said.contains("per-user"),
            "{name}"
        );
    }
    let completes = r#"
        eval "$(sealport completions bash)" || exit 1
        COMP_WORDS=(sealport secret ro) COMP_CWORD=2
        _sealport sealport ro secret
        printf '%s\n' "${COMPREPLY[@]}""#;
    let script = completes.replace(
        "sealport completions",
        &format!("{} completions", env!("CARGO_BIN_EXE_sealport")),
    );
    let ran = crate::served::ran(shell.program("bash", &["-c", &script]), "").await;
    assert_eq!(ran.out, "rollback\n", "{}", ran.err);
    assert_eq!(shell.run(&["completions", "tcsh"]).await.status, 2);
}
