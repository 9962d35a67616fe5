//! The kernel's side of `skep-logic`'s preparations: global functions, one for each family and kind of program, that find
//! the question in this processor's memory. They are exported so that the linker leaves them global.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use skep_logic::decide::Question;
use skep_logic::prepare::{self, Case, Prepared, Task};
use skep_logic::{Ipv4, Ipv6};

use crate::kernel::{Kernel, Kind};
use crate::maps::MapFamily;

/// Writes the question down and has it dealt with.
#[inline(always)]
pub fn ask<F: MapFamily>(
    kind: Kind,
    context: *mut c_void,
    question: &Question<'_, F::Address>,
    task: Task,
) -> Prepared {
    let Some(case) = F::case().get_ptr_mut(0) else { return Prepared::NOT_A_SERVICE };
    // SAFETY: the pointer is to this processor's live entry. XDP and TC programs run with bottom halves disabled, so that
    // no other one comes in between.
    prepare::write::<F>(question, unsafe { &mut *case });
    let replaces = u32::from(task == Task::Replace);
    Prepared::from_number(match (kind, F::IS_V4, task) {
        (Kind::Xdp, true, Task::Maintain) => maintain_xdp_v4(context.cast()),
        (Kind::Xdp, false, Task::Maintain) => maintain_xdp_v6(context.cast()),
        (Kind::Tc, true, Task::Maintain) => maintain_tc_v4(context.cast()),
        (Kind::Tc, false, Task::Maintain) => maintain_tc_v6(context.cast()),
        (Kind::Xdp, true, Task::Open) => open_xdp_v4(context.cast()),
        (Kind::Xdp, false, Task::Open) => open_xdp_v6(context.cast()),
        (Kind::Tc, true, Task::Open) => open_tc_v4(context.cast()),
        (Kind::Tc, false, Task::Open) => open_tc_v6(context.cast()),
        (Kind::Xdp, true, _) => establish_xdp_v4(context.cast(), replaces),
        (Kind::Xdp, false, _) => establish_xdp_v6(context.cast(), replaces),
        (Kind::Tc, true, _) => establish_tc_v4(context.cast(), replaces),
        (Kind::Tc, false, _) => establish_tc_v6(context.cast(), replaces),
        // They carry no packets.
        (Kind::Socket, ..) => return Prepared::NOT_A_SERVICE,
    })
}

/// The question of [`ask`].
#[inline(always)]
fn case<F: MapFamily>() -> Option<&'static Case<F::Address>> {
    // SAFETY: as in `ask`; nothing writes to it until it is answered.
    F::case().get_ptr(0).map(|case| unsafe { &*case })
}

macro_rules! entries {
    ($establish:ident, $open:ident, $maintain:ident, $family:ty, $context:ty, $ifindex:ident, $kernel:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $establish(context: *mut $context, replaces: u32) -> u32 {
            // SAFETY: the context is the calling program's own.
            let kernel = Kernel::$kernel(context.cast(), unsafe { (*context).$ifindex });
            let Some(case) = case::<$family>() else { return Prepared::NOT_A_SERVICE.number() };
            prepare::establish::<$family, Kernel>(&kernel, case, replaces != 0).number()
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $open(context: *mut $context) -> u32 {
            // SAFETY: as above.
            let kernel = Kernel::$kernel(context.cast(), unsafe { (*context).$ifindex });
            let Some(case) = case::<$family>() else { return Prepared::NOT_A_SERVICE.number() };
            prepare::open::<$family, Kernel>(&kernel, case).number()
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $maintain(context: *mut $context) -> u32 {
            // SAFETY: as above.
            let kernel = Kernel::$kernel(context.cast(), unsafe { (*context).$ifindex });
            let Some(case) = case::<$family>() else { return Prepared::NOT_A_SERVICE.number() };
            prepare::maintain::<$family, Kernel>(&kernel, case).number()
        }
    };
}

entries!(establish_xdp_v4, open_xdp_v4, maintain_xdp_v4, Ipv4, xdp_md, ingress_ifindex, xdp);
entries!(establish_xdp_v6, open_xdp_v6, maintain_xdp_v6, Ipv6, xdp_md, ingress_ifindex, xdp);
entries!(establish_tc_v4, open_tc_v4, maintain_tc_v4, Ipv4, __sk_buff, ifindex, tc);
entries!(establish_tc_v6, open_tc_v6, maintain_tc_v6, Ipv6, __sk_buff, ifindex, tc);
