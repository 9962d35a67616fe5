//! What can go wrong between the agent and the kernel.

use std::io;
use std::path::PathBuf;

/// Loading, attaching or pinning failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The BPF file system cannot be mounted, or a pin in it not be made or removed.
    #[error("cannot use {} on the BPF file system", path.display())]
    BpfFs {
        /// Directory or pin.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The object is no BPF object.
    #[error("cannot read the BPF object")]
    Object(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object lacks something that this agent needs, or has it in another shape.
    #[error("the BPF object does not fit this agent: {0}")]
    ObjectMismatch(String),
    /// A pinned map has another layout than the object's. Nothing has been changed.
    #[error(
        "pinned map {map} has {found}, but this version needs {wanted}: end this node's pods and run `skep-node \
         cleanup`, which drops the connections that it tracks"
    )]
    LayoutDiffers {
        /// Name of the map.
        map: String,
        /// What the pinned map is.
        found: String,
        /// What the object defines.
        wanted: String,
    },
    /// The pinned maps were written by another version of the programs. Nothing has been changed.
    #[error(
        "the pinned maps were written by version {found} of the datapath, this is version {wanted}: end this node's \
         pods and run `skep-node cleanup`, which drops the connections that it tracks"
    )]
    VersionDiffers {
        /// Version in the pinned configuration.
        found: u32,
        /// This agent's.
        wanted: u32,
    },
    /// The kernel did not take the maps or programs; for programs the source holds the verifier's log.
    #[error("the kernel does not take {what}")]
    Load {
        /// A program's name, or "the maps".
        what: String,
        /// The kernel's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A program cannot be attached.
    #[error("cannot attach {program} to {target}")]
    Attach {
        /// The program.
        program: &'static str,
        /// Interface or cgroup.
        target: String,
        /// The kernel's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel's notifications of routes and neighbours failed.
    #[error("cannot follow routes and neighbours")]
    Netlink(#[source] io::Error),
    /// A map cannot be opened, mapped, read or written.
    #[error("cannot use map {map}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn map(map: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Map { map, source }
    }

    pub(crate) fn attach<E>(program: &'static str, target: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let target = target.into();
        move |source| Self::Attach { program, target, source: source.into() }
    }
}
