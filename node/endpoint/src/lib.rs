//! The node's HTTPS endpoint (port 10250): logs, exec, attach, port-forward, metrics, health.
