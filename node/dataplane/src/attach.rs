//! Puts programs where they run, and replaces what runs there already.
//!
//! Owns the links: each is pinned, so that it outlives the agent, and a link that is pinned already gets the new
//! program in one atomic step. A pinned link whose interface or cgroup is gone, or is another one by now, is removed
//! and made anew.
//!
//! XDP is tried native, then generic; if neither works TC alone serves the uplink. On a veth native XDP attaches and loses
//! what it sends back, resets and all that goes to other nodes, unless the other end has an XDP program as well: that end is
//! out of sight, often in another network namespace, so there XDP is generic unless [`AttachChoices::veth`] says better. TC uses TCX links, and a clsact filter
//! on kernels before 6.6, which survives the agent without a pin and is replaced in place.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{CgroupAttachMode, LinkOrder, Program, SchedClassifier, TcAttachType, Xdp, XdpMode};
use nix::net::if_::{if_indextoname, if_nametoindex};
use skep_abi::program as names;

use crate::Error;
use crate::pins::{Pins, remove_pin};
use crate::sys::{self, LinkTarget};

/// Priority and handle of our filter where TCX is not there: fixed, so that the next agent replaces it.
const FILTER_PRIORITY: u16 = 1;
const FILTER_HANDLE: TcHandle = TcHandle::new(0, 0x5e);

/// The socket hooks and their programs.
pub(crate) const SOCKET_HOOKS: [(&str, &str); 8] = [
    ("connect4", names::SOCK_CONNECT4),
    ("connect6", names::SOCK_CONNECT6),
    ("sendmsg4", names::SOCK_SENDMSG4),
    ("sendmsg6", names::SOCK_SENDMSG6),
    ("recvmsg4", names::SOCK_RECVMSG4),
    ("recvmsg6", names::SOCK_RECVMSG6),
    ("getpeername4", names::SOCK_PEERNAME4),
    ("getpeername6", names::SOCK_PEERNAME6),
];

/// How an uplink takes packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpState {
    /// In the driver.
    Native,
    /// In the stack, before anything else.
    Generic,
    /// Not at all: TC does everything.
    Off,
}

/// Which ways of attaching to try; for machines where one misbehaves, and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachChoices {
    /// Try XDP in the driver.
    pub native: bool,
    /// Try it on a veth as well: its other end has an XDP program.
    pub veth: bool,
    /// Try XDP in the stack.
    pub generic: bool,
    /// Try TCX links.
    pub tcx: bool,
}

impl Default for AttachChoices {
    fn default() -> Self {
        Self { native: true, veth: false, generic: true, tcx: true }
    }
}

fn missing(name: &'static str) -> Error {
    Error::ObjectMismatch(format!("it has no program {name} of the kind that is needed"))
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, Error> {
    match ebpf.program_mut(name) {
        Some(Program::SchedClassifier(program)) => Ok(program),
        _ => Err(missing(name)),
    }
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, Error> {
    match ebpf.program_mut(name) {
        Some(Program::Xdp(program)) => Ok(program),
        _ => Err(missing(name)),
    }
}

/// The index of an interface of this network namespace.
pub(crate) fn interface_index(name: &'static str, interface: &str) -> Result<u32, Error> {
    if_nametoindex(interface).map_err(|errno| Error::attach(name, interface)(std::io::Error::from(errno)))
}

/// The name of the interface of that index in this network namespace.
pub(crate) fn interface_name(index: u32) -> Option<String> {
    // nix 0.31 gives an empty name instead of an error for an index that does not exist.
    let name = if_indextoname(index).ok()?.to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

/// Replaces the program of the link at `pin` if it is attached to `target`; removes the pin if it is not. True when
/// the new program now runs there.
fn replace(pin: &Path, target: LinkTarget, program: BorrowedFd<'_>) -> Result<bool, Error> {
    let failed = |source| Error::BpfFs { path: pin.to_owned(), source };
    let link = match sys::open_pin(pin) {
        Ok(link) => link,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let details = sys::link_details(link.as_fd()).map_err(failed)?;
    if details.target == target {
        match sys::link_update(link.as_fd(), program) {
            Ok(()) => return Ok(true),
            // The interface or cgroup went away between the two calls.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    remove_pin(pin)?;
    Ok(false)
}

fn pin(link: FdLink, path: &Path) -> Result<(), Error> {
    link.pin(path)
        .map(drop)
        .map_err(|error| Error::BpfFs { path: path.to_owned(), source: std::io::Error::other(error) })
}

/// Attaches a TC program to `interface`, whose index is `ifindex`.
pub(crate) fn attach_tc(
    ebpf: &mut Ebpf,
    name: &'static str,
    interface: &str,
    ifindex: u32,
    direction: TcAttachType,
    path: &Path,
    choices: AttachChoices,
) -> Result<(), Error> {
    let program = classifier(ebpf, name)?;
    let fd = program.fd().map_err(Error::attach(name, interface))?.as_fd();
    if replace(path, LinkTarget::Interface(ifindex), fd)? {
        return Ok(());
    }
    if choices.tcx {
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        match program.attach_with_options(interface, direction, options) {
            Ok(id) => {
                let link = program.take_link(id).map_err(Error::attach(name, interface))?;
                return pin(link.try_into().map_err(Error::attach(name, interface))?, path);
            }
            Err(error) => tracing::debug!(interface, program = name, %error, "no TCX link, using a filter"),
        }
    }
    attach_filter(program, name, interface, direction)
}

/// Attaches through a clsact filter, replacing ours if there is one. The kernel keeps it without the agent.
fn attach_filter(
    program: &mut SchedClassifier,
    name: &'static str,
    interface: &str,
    direction: TcAttachType,
) -> Result<(), Error> {
    // Fails when the qdisc is there, which is what is wanted; if it fails otherwise, so does what follows.
    tc::qdisc_add_clsact(interface).ok();
    let ours = SchedClassifierLink::attached(interface, direction, FILTER_PRIORITY, FILTER_HANDLE, None)
        .map_err(Error::attach(name, interface))?;
    let id = match program.attach_to_link(ours) {
        Ok(id) => id,
        Err(_) => {
            let options = NlOptions { priority: FILTER_PRIORITY, handle: FILTER_HANDLE, classid: None };
            program
                .attach_with_options(interface, direction, TcAttachOptions::Netlink(options))
                .map_err(Error::attach(name, interface))?
        }
    };
    // Dropping the link would take the filter away; without the drop it stays until it is replaced.
    std::mem::forget(program.take_link(id).map_err(Error::attach(name, interface))?);
    Ok(())
}

/// Attaches XDP to an uplink, as fast as it goes.
pub(crate) fn attach_xdp(
    ebpf: &mut Ebpf,
    name: &'static str,
    interface: &str,
    ifindex: u32,
    pins: &Pins,
    choices: AttachChoices,
) -> Result<XdpState, Error> {
    let program = xdp(ebpf, name)?;
    let native =
        choices.native && (choices.veth || !is_veth(interface).map_err(Error::attach(name, interface))?);
    let ways = [
        (XdpState::Native, XdpMode::Driver, "xdp-native", native),
        (XdpState::Generic, XdpMode::Skb, "xdp-generic", choices.generic),
    ];
    for (state, _, hook, wanted) in ways {
        let path = pins.uplink(interface, hook);
        if !wanted {
            remove_pin(&path)?;
            continue;
        }
        let fd = program.fd().map_err(Error::attach(name, interface))?.as_fd();
        if replace(&path, LinkTarget::Interface(ifindex), fd)? {
            return Ok(state);
        }
    }
    for (state, mode, hook, wanted) in ways {
        if !wanted {
            continue;
        }
        let attached = program.attach_to_if_index(ifindex, mode).and_then(|id| program.take_link(id));
        // A link that cannot be pinned (an old kernel's) goes away again when it is dropped.
        let link: Result<FdLink, _> = match attached {
            Ok(link) => link.try_into().map_err(|error| format!("{error}")),
            Err(error) => Err(with_sources(&error)),
        };
        match link {
            Ok(link) => {
                pin(link, &pins.uplink(interface, hook))?;
                return Ok(state);
            }
            Err(reason) => tracing::warn!(interface, way = hook, reason, "XDP cannot be attached this way"),
        }
    }
    Ok(XdpState::Off)
}

/// Whether an interface of this network namespace is one end of a virtual wire.
fn is_veth(interface: &str) -> std::io::Result<bool> {
    Ok(sys::driver(interface)? == "veth")
}

/// An error with what lies beneath it, in one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Attaches every socket hook to the cgroup.
pub(crate) fn attach_sockets(ebpf: &mut Ebpf, cgroup: &Path, pins: &Pins) -> Result<(), Error> {
    let shown = cgroup.display().to_string();
    for (hook, name) in SOCKET_HOOKS {
        let number = fs::metadata(cgroup).map_err(Error::attach(name, &shown))?.ino();
        let Some(Program::CgroupSockAddr(program)) = ebpf.program_mut(name) else {
            return Err(missing(name));
        };
        let path = pins.cgroup(hook);
        let fd = program.fd().map_err(Error::attach(name, &shown))?.as_fd();
        if replace(&path, LinkTarget::Cgroup(number), fd)? {
            continue;
        }
        let file = File::open(cgroup).map_err(Error::attach(name, &shown))?;
        let id = program.attach(file, CgroupAttachMode::Single).map_err(Error::attach(name, &shown))?;
        let link = program.take_link(id).map_err(Error::attach(name, &shown))?;
        pin(link.try_into().map_err(Error::attach(name, &shown))?, &path)?;
    }
    Ok(())
}

/// Gives every pod's pinned link the program of `ebpf`; removes those whose interface is gone.
pub(crate) fn replace_pods(ebpf: &mut Ebpf, pins: &Pins) -> Result<(), Error> {
    let program = classifier(ebpf, names::TC_FROM_POD)?;
    let fd = program.fd().map_err(Error::attach(names::TC_FROM_POD, "pods"))?.as_fd();
    for (name, path) in Pins::list(&pins.links())? {
        if name.starts_with("pod-") {
            let details = link_at(&path)?;
            if details.target == LinkTarget::Interface(0) {
                remove_pin(&path)?;
            } else {
                replace(&path, details.target, fd)?;
            }
        }
    }
    Ok(())
}

/// What the link pinned at `path` is attached to.
pub(crate) fn link_at(path: &Path) -> Result<sys::LinkDetails, Error> {
    let failed = |source| Error::BpfFs { path: path.to_owned(), source };
    let link = sys::open_pin(path).map_err(failed)?;
    sys::link_details(link.as_fd()).map_err(failed)
}

/// Removes our filters from every interface of this network namespace, where TCX was not used.
pub(crate) fn remove_filters() {
    let Ok(interfaces) = fs::read_dir("/sys/class/net") else { return };
    for interface in interfaces.flatten() {
        let name = interface.file_name().to_string_lossy().into_owned();
        for program in [names::TC_UPLINK_IN, names::TC_UPLINK_OUT, names::TC_FROM_POD] {
            for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
                // Most interfaces have none: that is the error.
                tc::qdisc_detach_program(&name, direction, program).ok();
            }
        }
    }
}
