//! etcd that asks for a user and a password; needs the tier `etcd`.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{ConnectOptions, Permission};

use super::EtcdStore;
use super::tests::{Etcd, create, events, keys, tier};
use crate::{Store, StoreError, suite};

/// A user who may read and write every key, one who may do nothing, and the one that etcd itself insists on.
async fn guarded() -> Etcd {
    // What a password is exchanged for is good for a second after its last use.
    let etcd = Etcd::start_with("http", &["--auth-token-ttl=1".to_owned()]);
    let mut admin = etcd.client().await;
    for (user, password) in [("root", "queen"), ("skep", "straw"), ("wasp", "sting")] {
        admin.user_add(user, password, None).await.unwrap();
        admin.role_add(user).await.unwrap();
        admin.user_grant_role(user, user).await.unwrap();
    }
    admin.role_grant_permission("skep", Permission::read_write("").with_all_keys()).await.unwrap();
    // From 3.6 on history is forgotten for administrators alone.
    let version = admin.status().await.unwrap().version().to_owned();
    if !["3.4.", "3.5."].iter().any(|older| version.starts_with(older)) {
        admin.user_grant_role("skep", "root").await.unwrap();
    }
    admin.auth_enable().await.unwrap();
    etcd
}

async fn connect(etcd: &Etcd, user: &str, password: &str) -> Result<EtcdStore, StoreError> {
    let options = ConnectOptions::new().with_user(user, password).with_auto_token_refresh(true);
    EtcdStore::connect(&etcd.endpoints(), Some(options)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_store_with_a_password_passes_the_suite_also_after_a_rest() {
    if !tier() {
        return;
    }
    let etcd = guarded().await;
    let store = Arc::new(connect(&etcd, "skep", "straw").await.unwrap());
    suite::run(store.clone()).await;
    let mut watch = store.watch("/r/", store.current_revision().await.unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    create(&store, "/r/a").await;
    assert_eq!(keys(&events(&mut watch, 1).await), ["/r/a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_users_without_rights_are_refused() {
    if !tier() {
        return;
    }
    let etcd = guarded().await;
    for (user, password) in [("skep", "wood"), ("hornet", "sting"), ("wasp", "sting")] {
        let connected = connect(&etcd, user, password).await.map(drop);
        assert!(matches!(connected, Err(StoreError::Backend { .. })), "{user}: {connected:?}");
    }
    let nobody = EtcdStore::connect(&etcd.endpoints(), None).await.map(drop);
    assert!(matches!(nobody, Err(StoreError::Backend { .. })), "{nobody:?}");
}
