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
//!
//! So far every map's layout is what it was in version 2, and what it holds is kept: services, backends, flows, affinity,
//! sockets, counters. Only the settings are made anew, with what they held: programs leave packets alone when the settings
//! are not of their version, and those of the old version run on with the old map until each is replaced. An established
//! connection meets one or the other, both with the same flows.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use skep_abi::ABI_VERSION;
use skep_abi::config::{CONFIG, Config};

use crate::Error;
use crate::layout::{self, Layout};
use crate::maps::Maps;
use crate::pins::{Pins, remove_pin};

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
    match pinned.iter().find(|(name, layout)| object.get(**name) != Some(*layout)) {
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

    /// The new version runs.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        match self.earlier.take() {
            Some(_) => remove_pin(&aside(&self.pins)),
            None => Ok(()),
        }
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
