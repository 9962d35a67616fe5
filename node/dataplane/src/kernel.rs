//! The dataplane in the kernel: loads the object, takes over what an earlier agent pinned, attaches, and applies.
//!
//! Owns the start-up order. Pinned maps are checked before anything is loaded; the settings are written before the
//! first program is attached; every program that is attached already is replaced in one step, so that established
//! flows see no gap. If any of it fails, what ran before runs on. Dropping the value changes nothing in the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::programs::{Program, ProgramInfo, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use skep_abi::backend::{Backend, BackendState};
use skep_abi::config::{Config, SNAT_FIRST, SNAT_LAST};
use skep_abi::counters::{COUNTED_SERVICES, SERVICE_COUNTS, ServiceStats};
use skep_abi::local::{LOCAL_XDP_REDIRECT, LocalEndpoint};
use skep_abi::service::ServiceValue;
use skep_abi::{ABI_VERSION, Be16, program as names};
use skep_maps::dataplane::MovedSockets;
use skep_maps::extents::Extent;
use skep_maps::room::Room;
use skep_maps::{Dataplane, Difference, Frontend, MapsError, PodLink, Prefix, Totals};

use crate::attach::{self, AttachChoices, XdpState, with_sources};
use crate::layout;
use crate::maps::Maps;
use crate::migrate::Migration;
use crate::pins::{Pins, remove_pin};
use crate::sockets::Sweeper;
use crate::sys::{LinkTarget, namespace_cookie};
use crate::{Error, counts, log};

/// What a node's dataplane is made of.
#[derive(Clone, Debug)]
pub struct DataplaneConfig {
    /// The BPF object.
    pub object: Vec<u8>,
    /// Directory for pins, on the BPF file system or where it may be mounted.
    pub pin_root: PathBuf,
    /// cgroup v2 directory whose processes' sockets are translated; none leaves all to TC.
    pub cgroup_root: Option<PathBuf>,
    /// Interfaces to other machines; the first one is where a packet goes that no route was looked up for.
    pub uplinks: Vec<String>,
    /// Source of translated IPv4 packets: this node's address.
    pub node_v4: Option<Ipv4Addr>,
    /// Source of translated IPv6 packets.
    pub node_v6: Option<Ipv6Addr>,
    /// Ports for translated sources, first and last.
    pub snat_ports: (u16, u16),
    /// Debug messages of the programs: 0 none, 1 (error) to 5 (trace).
    pub log_level: u32,
    /// Random key for hashes over addresses; used only when there is no earlier agent's.
    pub seed: u64,
    /// Capacities to use instead of the object's, by map name; only for maps that are not pinned yet. That of
    /// [`SERVICE_COUNTS`] is the number of services: each processor counts for itself.
    pub capacities: Vec<(&'static str, u32)>,
    /// Which ways of attaching to try.
    pub attach: AttachChoices,
    /// Count and time every run of every program (some nanoseconds each).
    pub run_statistics: bool,
}

impl DataplaneConfig {
    /// The defaults for an object and a pin directory: no uplink, no cgroup, no address.
    pub fn new(object: Vec<u8>, pin_root: impl Into<PathBuf>, seed: u64) -> Self {
        Self {
            object,
            pin_root: pin_root.into(),
            cgroup_root: None,
            uplinks: Vec::new(),
            node_v4: None,
            node_v6: None,
            snat_ports: (SNAT_FIRST, SNAT_LAST),
            log_level: 0,
            seed,
            capacities: Vec::new(),
            attach: AttachChoices::default(),
            run_statistics: false,
        }
    }
}

/// The dataplane of one node in the kernel.
#[derive(Debug)]
pub struct KernelDataplane {
    pub(crate) maps: Maps,
    pub(crate) pins: Pins,
    programs: Mutex<Ebpf>,
    settings: Mutex<Config>,
    uplinks: Vec<(String, XdpState)>,
    choices: AttachChoices,
    sockets: Sweeper,
    // Run statistics are on while this is open.
    _statistics: Option<OwnedFd>,
}

impl KernelDataplane {
    /// Loads, takes over, attaches. Call it in the node's network namespace; with a tokio runtime, debug messages of the
    /// programs go to `tracing` from then on.
    ///
    /// # Errors
    /// [`Error`]: whatever ran before goes on running.
    pub fn open(config: &DataplaneConfig) -> Result<Self, Error> {
        let pins = Pins::new(&config.pin_root);
        pins.prepare()?;
        let layouts = layout::of_object(&config.object)?;
        let migration = Migration::begin(&pins, &layouts)?;
        let mut ebpf = load(config, &pins)?;
        let maps = Maps::open(&pins)?;
        let settings = settings(config, &maps, migration.earlier())?;
        maps.set_config(&settings).map_err(map_error)?;
        forget_lost_pods(&maps).map_err(map_error)?;
        // Before the programs are replaced, and what the earlier ones made meanwhile after it.
        migration.take_over_flows(&maps, settings.seed)?;
        let uplinks = attach_all(&mut ebpf, config, &pins)?;
        migration.take_over_flows(&maps, settings.seed)?;
        migration.finish()?;
        log::forward(&mut ebpf);
        let _statistics = config.run_statistics.then(|| aya::sys::enable_stats(aya::sys::Stats::RunTime));
        let _statistics = match _statistics.transpose() {
            Ok(statistics) => statistics,
            Err(error) => {
                tracing::warn!(error = with_sources(&error), "no run statistics");
                None
            }
        };
        Ok(Self {
            maps,
            pins,
            programs: Mutex::new(ebpf),
            settings: Mutex::new(settings),
            uplinks,
            choices: config.attach,
            sockets: Sweeper::default(),
            _statistics,
        })
    }

    /// Each uplink and how XDP is attached to it.
    pub fn uplinks(&self) -> &[(String, XdpState)] {
        &self.uplinks
    }

    /// Sets which debug messages the programs send: 0 none, 1 (error) to 5 (trace).
    ///
    /// # Errors
    /// [`MapsError::Write`].
    pub fn set_log_level(&self, level: u32) -> Result<(), MapsError> {
        self.change_settings(|settings| settings.log_level = level)
    }

    /// What the kernel knows about each program that this agent has loaded.
    pub(crate) fn program_infos(&self) -> Vec<(String, ProgramInfo)> {
        let programs = self.programs();
        let known =
            programs.programs().filter_map(|(name, program)| Some((name.to_owned(), program.info().ok()?)));
        known.collect()
    }

    fn change_settings(&self, change: impl FnOnce(&mut Config)) -> Result<(), MapsError> {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = *settings;
        change(&mut changed);
        self.maps.set_config(&changed)?;
        *settings = changed;
        Ok(())
    }

    /// Lets every flow resolve its next hop again. 0 never matches, so it is skipped when the number wraps.
    fn raise_epoch(&self) -> Result<(), MapsError> {
        self.change_settings(|settings| settings.epoch = settings.epoch.wrapping_add(1).max(1))
    }

    fn programs(&self) -> MutexGuard<'_, Ebpf> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the program off the interface of that index, where its link is pinned.
    fn detach_interface(&self, ifindex: u32) -> Result<(), Error> {
        for (name, path) in Pins::list(&self.pins.links())? {
            if name.starts_with("pod-") {
                let target = attach::link_at(&path)?.target;
                if target == LinkTarget::Interface(ifindex) || target == LinkTarget::Interface(0) {
                    remove_pin(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// Forgets pods whose interface went away while no agent ran: nothing may be sent to an interface by its old number.
fn forget_lost_pods(maps: &Maps) -> Result<(), MapsError> {
    for (address, endpoint) in maps.local_endpoints()? {
        if attach::interface_name(endpoint.ifindex).is_none() {
            tracing::info!(%address, "forgetting a pod whose interface is gone");
            maps.remove_local(address)?;
        }
    }
    Ok(())
}

/// Takes every program off and removes every pin of a node. Returns what was removed.
///
/// # Errors
/// [`Error::BpfFs`].
pub fn cleanup(pin_root: &std::path::Path) -> Result<Vec<PathBuf>, Error> {
    let removed = Pins::new(pin_root).remove_all()?;
    attach::remove_filters();
    Ok(removed)
}

fn load(config: &DataplaneConfig, pins: &Pins) -> Result<Ebpf, Error> {
    let failed = |what: &str, source: Box<dyn std::error::Error + Send + Sync>| Error::Load {
        what: what.to_owned(),
        source,
    };
    let mut loader = EbpfLoader::new();
    for (name, _, _) in layout::MAPS {
        loader.map_pin_path(name, pins.map(name));
    }
    let processors = counts::processors().map_err(Error::map(SERVICE_COUNTS))?;
    for &(name, entries) in [(SERVICE_COUNTS, COUNTED_SERVICES)].iter().chain(&config.capacities) {
        let rows = if name == SERVICE_COUNTS { processors } else { 1 };
        loader.map_max_entries(name, entries.saturating_mul(rows));
    }
    let mut ebpf = loader.load(&config.object).map_err(|error| failed("the maps", error.into()))?;
    for (name, program) in ebpf.programs_mut() {
        let loaded = match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            _ => return Err(Error::ObjectMismatch(format!("program {name} is of a kind that is not used"))),
        };
        loaded.map_err(|error| failed(name, error.into()))?;
    }
    Ok(ebpf)
}

fn map_error(error: MapsError) -> Error {
    match error {
        MapsError::Read { map, source } | MapsError::Write { map, source } => Error::Map { map, source },
        other => Error::Map { map: skep_abi::config::CONFIG, source: std::io::Error::other(other) },
    }
}

/// The settings to write: an earlier agent's seed stays, and its epoch is passed, for routes may have changed.
fn settings(config: &DataplaneConfig, maps: &Maps, migrated: Option<Config>) -> Result<Config, Error> {
    let earlier = match migrated {
        Some(earlier) => earlier,
        None => maps.config().map_err(map_error)?,
    };
    let [(_, flows_v4), (_, flows_v6)] = maps.flow_tables();
    let uplink = match config.uplinks.first() {
        Some(interface) => attach::interface_index(names::XDP_UPLINK, interface)?,
        None => 0,
    };
    Ok(Config {
        version: ABI_VERSION,
        epoch: earlier.epoch.wrapping_add(1).max(1),
        seed: if earlier.version == 0 { config.seed } else { earlier.seed },
        uplink,
        node_v4: config.node_v4.map(Into::into).unwrap_or_default(),
        node_v6: config.node_v6.map(Into::into).unwrap_or_default(),
        snat_first: Be16::new(config.snat_ports.0),
        snat_last: Be16::new(config.snat_ports.1),
        log_level: config.log_level,
        host: namespace_cookie().unwrap_or_else(|error| {
            tracing::warn!(%error, "localhost NodePorts answer in every namespace");
            0
        }),
        flow_sets_v4: flows_v4.set_count(),
        flow_sets_v6: flows_v6.set_count(),
        counted_services: maps.counted_services(),
        reserved: 0,
    })
}

fn attach_all(
    ebpf: &mut Ebpf,
    config: &DataplaneConfig,
    pins: &Pins,
) -> Result<Vec<(String, XdpState)>, Error> {
    attach::replace_pods(ebpf, pins)?;
    if let Some(cgroup) = &config.cgroup_root {
        attach::attach_sockets(ebpf, cgroup, pins)?;
    }
    let mut uplinks = Vec::new();
    for interface in &config.uplinks {
        let ifindex = attach::interface_index(names::XDP_UPLINK, interface)?;
        let directions = [
            (names::TC_UPLINK_IN, "ingress", TcAttachType::Ingress),
            (names::TC_UPLINK_OUT, "egress", TcAttachType::Egress),
        ];
        for (program, hook, direction) in directions {
            let pin = pins.uplink(interface, hook);
            attach::attach_tc(ebpf, program, interface, ifindex, direction, &pin, config.attach)?;
        }
        let state = attach::attach_xdp(ebpf, names::XDP_UPLINK, interface, ifindex, pins, config.attach)?;
        uplinks.push((interface.clone(), state));
    }
    Ok(uplinks)
}

fn link_error(interface: &str) -> impl Fn(Error) -> MapsError + '_ {
    move |error| MapsError::Link { interface: interface.to_owned(), source: error.into() }
}

impl Dataplane for KernelDataplane {
    fn slot_capacity(&self) -> u32 {
        self.maps.slot_capacity()
    }

    fn room(&self) -> Room {
        self.maps.room()
    }

    fn services(&self) -> Result<Vec<(Frontend, ServiceValue)>, MapsError> {
        self.maps.services()
    }

    fn source_ranges(&self) -> Result<Vec<(u32, Prefix)>, MapsError> {
        self.maps.source_ranges()
    }

    fn slots(&self, extent: Extent) -> Vec<Backend> {
        self.maps.slots(extent)
    }

    fn backend_states(&self) -> Vec<BackendState> {
        self.maps.backend_states()
    }

    fn apply(&self, difference: &Difference) -> Result<(), MapsError> {
        self.maps.apply(difference)
    }

    fn attach_pod(&self, link: &PodLink) -> Result<(), MapsError> {
        let failed = link_error(&link.interface);
        attach::attach_tc(
            &mut self.programs(),
            names::TC_FROM_POD,
            &link.interface,
            link.ifindex,
            TcAttachType::Ingress,
            &self.pins.pod(&link.interface),
            self.choices,
        )
        .map_err(failed)?;
        let endpoint = LocalEndpoint {
            ifindex: link.ifindex,
            flags: if link.xdp_redirect { LOCAL_XDP_REDIRECT } else { 0 },
            pod_mac: link.pod_mac,
            host_mac: link.host_mac,
        };
        for address in &link.addresses {
            self.maps.set_local(*address, &endpoint)?;
        }
        self.raise_epoch()
    }

    fn detach_pod(&self, addresses: &[IpAddr]) -> Result<(), MapsError> {
        let mut indexes = Vec::new();
        for address in addresses {
            indexes.extend(self.maps.remove_local(*address)?.map(|endpoint| endpoint.ifindex));
        }
        indexes.dedup();
        for ifindex in indexes {
            self.detach_interface(ifindex).map_err(link_error("a pod's link"))?;
        }
        self.raise_epoch()
    }

    fn local_endpoints(&self) -> Result<Vec<(IpAddr, LocalEndpoint)>, MapsError> {
        self.maps.local_endpoints()
    }

    fn routes_changed(&self) -> Result<(), MapsError> {
        self.raise_epoch()
    }

    fn move_sockets(&self) -> Result<MovedSockets, MapsError> {
        self.sockets.sweep(&self.maps)
    }

    fn totals(&self) -> Result<Totals, MapsError> {
        self.maps.totals()
    }

    fn service_totals(&self, id: u32) -> Result<Option<ServiceStats>, MapsError> {
        self.maps.service_totals(id)
    }
}
