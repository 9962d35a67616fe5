//! What becomes of maps that an earlier version of the programs has written.
//!
//! Owns the history of the ABI's versions and the taking over of pins from one to the next. The rule: the version is looked
//! at first, then each map. A version that this one knows the way from is taken over map by map; any other, a later one
//! above all, is refused, and so is a map whose layout is not what its version had. Nothing is ever reinterpreted.
//!
//! | from | what the next version changed | how it is taken over |
//! |---|---|---|
//! | 2 | source ranges and fragments were added | new maps, empty |
//! | 3 | fragments leave with another identification, SCTP is translated | nothing to do: no layout changed |
//! | 4 | half-open connections were kept apart | new maps, empty; whose handshake goes on is in the table of flows already |
//! | 5 | flows lie in tables of sets, the settings say how large those are | each flow is entered into the new table, before the programs are replaced and once more after that |
//! | 6 | connected sockets were among the peers of unconnected ones, flows did not say by what their checksums change | new maps, empty, and what is not in them is looked for among the peers; 0 in a flow is summed up for each packet |
//! | 7 | services were counted in a per-CPU array, the settings did not say how many are | a new map, empty; the old one stays pinned, is zeroed with the new one, and what it holds is added |
//!
//! Every other map's layout is what it was in version 2, and what it holds is kept: services, backends, affinity, sockets,
//! counters. The settings are made anew, with what they held: programs leave packets alone when the settings are not of
//! their version, and those of the old version run on with the old map until each is replaced. An established connection
//! meets one or the other, both with the same flow. A connection that the old programs make in the instant between the first
//! taking over and their replacement is without its flow until the second.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use aya::maps::MapInfo;
use skep_abi::config::{CONFIG, Config};
use skep_abi::earlier::{self, EarlierFlow};
use skep_abi::flow::{Flow, FlowAddress, FlowKey};
use skep_abi::{ABI_VERSION, Plain, V4, V6};

use crate::Error;
use crate::layout::{self, Layout};
use crate::maps::Maps;
use crate::pins::{Pins, remove_pin};
use crate::plain::read;
use crate::sys::{self, RawMap};

/// The oldest version whose maps can be taken over: each later one has them all, and with the same layouts.
const OLDEST: u32 = 2;

/// What to do with the maps that are pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// They are this version's, or there are none.
    Keep,
    /// They are an earlier version's: the settings are made anew.
    Migrate,
}

/// What to do with maps of the version `found`, 0 when no settings were ever written.
fn plan(
    found: u32,
    pinned: &BTreeMap<&'static str, Layout>,
    object: &BTreeMap<String, Layout>,
) -> Result<Plan, Error> {
    let plan = match found {
        0 | ABI_VERSION => Plan::Keep,
        OLDEST..ABI_VERSION => Plan::Migrate,
        _ => return Err(Error::VersionDiffers { found, wanted: ABI_VERSION }),
    };
    // An earlier version's settings are made anew, whatever they looked like.
    let settings = |name: &str| plan == Plan::Migrate && name == CONFIG;
    match pinned.iter().find(|(name, layout)| object.get(**name) != Some(*layout) && !settings(name)) {
        None => Ok(plan),
        Some((name, layout)) => Err(Error::LayoutDiffers {
            map: (*name).to_owned(),
            found: layout.to_string(),
            wanted: object.get(*name).map_or_else(|| "none".to_owned(), ToString::to_string),
        }),
    }
}

/// The settings of an earlier version, whose pin has been put aside. Put back when dropped, unless the new version runs.
#[derive(Debug)]
pub(crate) struct Migration {
    pins: Pins,
    earlier: Option<Config>,
}

impl Migration {
    /// Looks at what is pinned, and puts aside what has to be made anew.
    ///
    /// # Errors
    /// [`Error::VersionDiffers`] and [`Error::LayoutDiffers`]: nothing was changed.
    pub(crate) fn begin(pins: &Pins, object: &BTreeMap<String, Layout>) -> Result<Self, Error> {
        // An agent that was ended in the middle of this.
        if aside(pins).exists() {
            put_back(pins)?;
        }
        let found = if pins.map(CONFIG).exists() { Maps::pinned_config(pins)? } else { Config::default() };
        let earlier = match plan(found.version, &layout::pinned(pins)?, object)? {
            Plan::Keep => None,
            Plan::Migrate => {
                tracing::info!(
                    from = found.version,
                    to = ABI_VERSION,
                    "taking over the maps of an earlier version"
                );
                rename(pins, pins.map(CONFIG), aside(pins))?;
                Some(found)
            }
        };
        Ok(Self { pins: pins.clone(), earlier })
    }

    /// The settings that an earlier version left.
    pub(crate) fn earlier(&self) -> Option<Config> {
        self.earlier
    }

    /// Enters the flows of an earlier version's tables into this one's.
    ///
    /// # Errors
    /// [`Error::Map`] and [`Error::LayoutDiffers`].
    pub(crate) fn take_over_flows(&self, maps: &Maps, seed: u64) -> Result<(), Error> {
        if self.earlier.is_none() {
            return Ok(());
        }
        let [(_, v4), (_, v6)] = maps.flow_tables();
        let (mut entered, mut refused) = (0, 0);
        for name in earlier::FLOWS_V4 {
            earlier_flows::<V4>(&self.pins, name)?.iter().try_for_each(|flow| {
                *if v4.enter(flow, seed).map_err(Error::map(name))? { &mut entered } else { &mut refused } +=
                    1;
                Ok::<_, Error>(())
            })?;
        }
        for name in earlier::FLOWS_V6 {
            earlier_flows::<V6>(&self.pins, name)?.iter().try_for_each(|flow| {
                *if v6.enter(flow, seed).map_err(Error::map(name))? { &mut entered } else { &mut refused } +=
                    1;
                Ok::<_, Error>(())
            })?;
        }
        tracing::info!(entered, refused, "took over the flows of an earlier version");
        Ok(())
    }

    /// The new version runs.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        if self.earlier.take().is_none() {
            return Ok(());
        }
        for name in earlier::FLOWS_V4.into_iter().chain(earlier::FLOWS_V6) {
            remove_pin(&self.pins.map(name))?;
        }
        remove_pin(&aside(&self.pins))
    }
}

impl Drop for Migration {
    fn drop(&mut self) {
        if self.earlier.is_some()
            && let Err(error) = put_back(&self.pins)
        {
            tracing::error!(%error, "the earlier version's settings could not be put back; the next start tries again");
        }
    }
}

/// The flows of one of an earlier version's maps; none where that is not pinned.
fn earlier_flows<A: FlowAddress>(pins: &Pins, name: &'static str) -> Result<Vec<Flow<A>>, Error>
where
    EarlierFlow<A>: Plain,
{
    let path = pins.map(name);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let info =
        MapInfo::from_pin(&path).map_err(|error| Error::Map { map: name, source: layout::io(error) })?;
    let (key, value) = (info.key_size() as usize, info.value_size() as usize);
    if (key, value) != (size_of::<FlowKey>(), size_of::<EarlierFlow<A>>()) {
        return Err(Error::LayoutDiffers {
            map: name.to_owned(),
            found: format!("{key}-byte keys and {value}-byte values"),
            wanted: "what its version had".to_owned(),
        });
    }
    let map = RawMap::new(sys::open_pin(&path).map_err(Error::map(name))?, key, value);
    let mut flows = Vec::new();
    map.walk(|key, value| {
        if let (Some(key), Some(flow)) = (read::<FlowKey>(key), read::<EarlierFlow<A>>(value)) {
            flows.push(flow.taken_over(&key));
        }
    })
    .map_err(Error::map(name))?;
    Ok(flows)
}

/// Where the earlier version's settings are meanwhile.
fn aside(pins: &Pins) -> PathBuf {
    pins.map("CONFIG-EARLIER")
}

fn put_back(pins: &Pins) -> Result<(), Error> {
    remove_pin(&pins.map(CONFIG))?;
    rename(pins, aside(pins), pins.map(CONFIG))
}

fn rename(pins: &Pins, from: PathBuf, to: PathBuf) -> Result<(), Error> {
    fs::rename(from, to).map_err(|source| Error::BpfFs { path: pins.maps(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(value: u32) -> Layout {
        Layout { kind: 1, key: 4, value, flags: 0 }
    }

    #[test]
    fn plan_looks_at_the_version_then_at_each_map() {
        let object = BTreeMap::from([("A".to_owned(), layout(8)), ("B".to_owned(), layout(16))]);
        let same = BTreeMap::from([("A", layout(8))]);
        let other = BTreeMap::from([("A", layout(8)), ("B", layout(12))]);
        for found in [0, ABI_VERSION] {
            assert_eq!(plan(found, &same, &object).unwrap(), Plan::Keep, "{found}");
        }
        for found in OLDEST..ABI_VERSION {
            assert_eq!(plan(found, &same, &object).unwrap(), Plan::Migrate, "{found}");
        }
        for found in [1, ABI_VERSION + 1, 99] {
            let error = plan(found, &other, &object).unwrap_err();
            assert!(matches!(error, Error::VersionDiffers { found: told, .. } if told == found), "{error}");
        }
        for found in [0, OLDEST, ABI_VERSION] {
            let error = plan(found, &other, &object).unwrap_err();
            assert!(matches!(&error, Error::LayoutDiffers { map, .. } if map == "B"), "{error}");
        }
    }
}
