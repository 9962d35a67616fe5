//! Random services, changes and packets: the kernel's verdict and the packet that it leaves are what the reference model
//! says. `SKEP_MODEL_CASES` sets how many histories.
#![allow(clippy::unwrap_used)] // a test

#[path = "model/pair.rs"]
mod pair;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use skep_datapath_tests::fixture::Fixture;
use skep_datapath_tests::packet::{ACK, FIN, RST, SYN};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::Family;

use pair::Pair;

const CASES: u32 = 48;
const SERVICES: usize = 3;
/// Backends of a service: the first two are pods here, the others elsewhere.
const BACKENDS_EACH: usize = 5;
const CLIENTS: u16 = 4;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// These backends are in use from now on; those that were and are not leave, or are gone at once.
    Use { service: usize, backends: [bool; BACKENDS_EACH], at_once: bool },
    /// Those that are leaving are gone.
    End { service: usize },
    /// The service is deleted, or there again.
    Toggle { service: usize },
    /// A client sends something.
    Client { service: usize, client: u16, flags: u8 },
    /// The backend of a client's connection sends something.
    Backend { service: usize, client: u16, flags: u8 },
    /// A backend sends something that is no reply.
    Unasked { service: usize, backend: usize, port: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let service = 0..SERVICES;
    let flags = prop::sample::select(vec![SYN, SYN, ACK, ACK, ACK, FIN | ACK, RST, SYN | ACK]);
    prop_oneof![
        2 => (service.clone(), any::<[bool; BACKENDS_EACH]>(), any::<bool>())
            .prop_map(|(service, backends, at_once)| Step::Use { service, backends, at_once }),
        1 => service.clone().prop_map(|service| Step::End { service }),
        1 => service.clone().prop_map(|service| Step::Toggle { service }),
        14 => (service.clone(), 0..CLIENTS, flags.clone())
            .prop_map(|(service, client, flags)| Step::Client { service, client, flags }),
        6 => (service.clone(), 0..CLIENTS, flags)
            .prop_map(|(service, client, flags)| Step::Backend { service, client, flags }),
        1 => (service, 0..BACKENDS_EACH, 61000u16..61100)
            .prop_map(|(service, backend, port)| Step::Unasked { service, backend, port }),
    ]
}

#[test]
fn kernels_verdict_on_any_history_is_the_models() {
    if !tier_enabled() {
        return;
    }
    let cases = std::env::var("SKEP_MODEL_CASES").map_or(CASES, |text| text.parse().unwrap());
    for family in Family::ALL {
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let histories = (any::<bool>(), prop::collection::vec(step(), 20..150));
        let result = runner.run(&histories, |(hashed, steps)| {
            let fixture = Fixture::new().unwrap();
            let mut pair = Pair::new(&fixture, family, hashed);
            (0..SERVICES).for_each(|service| pair.write(service));
            for service in 0..SERVICES {
                let backends = [true, false, true, true, false];
                pair.take(&Step::Use { service, backends, at_once: false })?;
            }
            steps.iter().try_for_each(|step| pair.take(step))
        });
        if let Err(error) = result {
            panic!("{family:?}: {error}");
        }
    }
}
