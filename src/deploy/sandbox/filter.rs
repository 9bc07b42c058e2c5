//! The third wall: system calls that no namespace confines and no server needs.
//!
//! Keyrings are handed on to whatever is started, and two guests of one user would have them in common. Sockets of some
//! families belong to no network: by `AF_VSOCK` a guest would speak to the hypervisor, or to this host's own services
//! there. And `io_uring` makes calls that a filter does not see.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// `socket`, and the calls that are refused: add_key, request_key, keyctl; then setting up, entering and changing a ring.
#[cfg(target_arch = "x86_64")]
const NUMBERS: (i64, [i64; 6]) = (41, [248, 249, 250, 425, 426, 427]);
#[cfg(not(target_arch = "x86_64"))]
const NUMBERS: (i64, [i64; 6]) = (198, [217, 218, 219, 425, 426, 427]);

/// AF_UNIX, AF_INET, AF_INET6, and AF_NETLINK, by which programs ask for their addresses.
const FAMILIES: [u64; 4] = [1, 2, 10, 16];

/// Where a kernel runs programs of the x32 kind, their calls have this bit.
const X32: i64 = 0x4000_0000;

const EPERM: u32 = 1;

/// Refuses these to this process and to all that come of it.
pub(super) fn refuse() -> Result<(), String> {
    // An architecture that the filter is not written for is one that we do not ship for.
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(());
    };
    let apply = || {
        let program: BpfProgram = program(architecture)?;
        seccompiler::apply_filter(&program).map_err(|error| error.to_string())
    };
    apply().map_err(|error: String| format!("the filter of system calls was refused: {error}"))
}

fn program(architecture: TargetArch) -> Result<BpfProgram, String> {
    let (socket, refused) = NUMBERS;
    let other = FAMILIES
        .map(|family| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family));
    let other: Result<Vec<_>, _> = other.into_iter().collect();
    let of_another_family = SeccompRule::new(other.map_err(|error| error.to_string())?)
        .map_err(|error| error.to_string())?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for bit in [0, X32] {
        rules.insert(socket | bit, vec![of_another_family.clone()]);
        rules.extend(refused.map(|number| (number | bit, Vec::new())));
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(EPERM),
        architecture,
    );
    let filter = filter.map_err(|error| error.to_string())?;
    filter
        .try_into()
        .map_err(|error: seccompiler::BackendError| error.to_string())
}
