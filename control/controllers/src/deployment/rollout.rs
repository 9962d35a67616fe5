//! The two strategies: rolling update, and deleting everything before creating anew.

use super::plan::Step;
use super::{scaling, status};
use crate::pod_state;

impl Step<'_> {
    /// One step of a rolling update.
    pub(super) fn roll(&mut self) {
        self.find_or_create_newest();
        if !self.grow_newest() && !self.shrink_old() && status::is_complete(self.deployment, &self.recorded())
        {
            self.clean_up();
        }
        self.sync_rollout_status();
    }

    /// One step of a `Recreate` rollout.
    pub(super) fn recreate(&mut self) {
        self.find_newest();
        let mut shrunk = false;
        for index in self.old() {
            if self.sets[index].replicas() > 0 {
                shrunk |= self.resize(index, 0);
            }
        }
        if !shrunk && !self.old_pods_run() {
            self.find_or_create_newest();
            if let Some(newest) = self.newest {
                let desired = self.desired();
                if self.sets[newest].replicas() != desired {
                    self.resize(newest, desired);
                }
            }
            if status::is_complete(self.deployment, &self.recorded()) {
                self.clean_up();
            }
        }
        self.sync_rollout_status();
    }

    fn recorded(&self) -> k8s_openapi::api::apps::v1::DeploymentStatus {
        self.deployment.status.clone().unwrap_or_default()
    }

    /// Whether a pod of an old template may still run.
    fn old_pods_run(&self) -> bool {
        self.old().into_iter().any(|index| {
            let set = &self.sets[index];
            let pods = set.object.metadata.uid.as_ref().and_then(|uid| self.pods.get(uid));
            set.actual() > 0 || pods.into_iter().flatten().any(|pod| !pod_state::is_terminal(pod))
        })
    }

    /// Gives the newest set as much as surge allows. Whether its size changed.
    fn grow_newest(&mut self) -> bool {
        let Some(newest) = self.newest else { return false };
        let (size, desired) = (self.sets[newest].replicas(), self.desired());
        if size == desired {
            return false;
        }
        let target = if size > desired { desired } else { scaling::newest_size(self) };
        self.resize(newest, target)
    }

    /// Takes from the old sets what availability allows: unhealthy pods first. Whether a size changed.
    fn shrink_old(&mut self) -> bool {
        let old = self.old();
        if old.iter().all(|index| self.sets[*index].replicas() == 0) {
            return false;
        }
        let min_available = self.desired() - scaling::max_unavailable(self.deployment);
        let newest_unavailable =
            self.newest.map_or(0, |newest| self.sets[newest].replicas() - self.sets[newest].available());
        let can_go = self.total() - min_available - newest_unavailable;
        if can_go <= 0 {
            return false;
        }
        let mut gone = 0;
        for &index in &old {
            let set = &self.sets[index];
            let unhealthy = (set.replicas() - set.available()).clamp(0, can_go - gone);
            if unhealthy > 0 {
                let size = set.replicas() - unhealthy;
                self.resize(index, size);
                gone += unhealthy;
            }
        }
        let available: i32 = self.sets.iter().map(super::plan::Set::available).sum();
        let mut surplus = (available - min_available).max(0);
        for &index in &old {
            let set = &self.sets[index];
            let take = set.replicas().min(surplus);
            if take > 0 {
                let size = set.replicas() - take;
                self.resize(index, size);
                surplus -= take;
                gone += take;
            }
        }
        gone > 0
    }
}
