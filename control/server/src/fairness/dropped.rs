//! When those who were refused may come again: the longer the more are refused.

use std::collections::VecDeque;

/// Seconds; nobody is sent away for longer.
const LONGEST: u64 = 32;

/// What one level refused.
#[derive(Debug)]
pub(super) struct Dropped {
    /// Seconds with how many were refused in each, the current one last.
    seconds: VecDeque<(u64, u64)>,
    retry_after: u64,
    raised_at: u64,
}

impl Dropped {
    pub(super) fn new() -> Self {
        Self { seconds: VecDeque::new(), retry_after: 1, raised_at: 0 }
    }

    /// Takes down a refusal in second `now`; after how many seconds to come again.
    pub(super) fn refuse(&mut self, now: u64) -> u32 {
        match self.seconds.back_mut() {
            Some((second, count)) if *second == now => *count += 1,
            _ => {
                self.adjust(now);
                self.seconds.push_back((now, 1));
            }
        }
        self.retry_after as u32
    }

    /// Doubles the time when many were refused, and takes one second off when few were.
    fn adjust(&mut self, now: u64) {
        self.seconds.retain(|(second, _)| now.saturating_sub(*second) <= LONGEST);
        let recent = self.seconds.iter().filter(|(second, _)| now - second <= self.retry_after);
        let count: u64 = recent.map(|(_, count)| count).sum();
        if now - self.raised_at >= self.retry_after && count >= 3 * self.retry_after {
            self.retry_after = (self.retry_after * 2).min(LONGEST);
            self.raised_at = now;
        } else if count < self.retry_after && self.retry_after > 1 {
            self.retry_after -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_doubles_while_many_are_refused_and_falls_when_few_are() {
        let mut dropped = Dropped::new();
        let mut longest = 0;
        for now in 100..300 {
            for _ in 0..100 {
                longest = longest.max(dropped.refuse(now));
            }
        }
        assert_eq!((longest, dropped.refuse(299)), (32, 32));
        for now in 400..500 {
            dropped.refuse(now);
        }
        assert!(dropped.refuse(500) < 32);
        assert_eq!(Dropped::new().refuse(100), 1);
    }
}
