//! A server that is gone at any point of a release at a provider: another goes on, makes nothing twice, and loses nothing.

use sealport::model::deployments::{DeploymentState, ReleaseState};

use crate::fakes::wire::Fault;
use crate::house::House;

/// More requests than a first release sends.
const POINTS: usize = 12;

#[tokio::test]
async fn wherever_a_server_is_killed_one_service_runs_in_the_end() {
    let mut reached = 0;
    for point in 0..POINTS {
        let house = House::new().await;
        // It is never answered, whether it was done or not.
        let fault = match point % 2 {
            0 => Fault::Hang,
            _ => Fault::DoAndHang,
        };
        house.render.wire.will_at(point, fault);
        let name = house.deploy("crawl", vec![]).await;
        let asked = house
            .until_there("a request that hangs, or an end", |house| {
                let asked = house.render.wire.count();
                (asked > point).then_some(asked)
            })
            .await;
        reached = reached.max(asked);
        let house = house.another().await;
        let _served = house.serve().await;
        let detail = house.state(&name, DeploymentState::Running).await;
        assert_eq!(detail.releases.len(), 1);
        assert_eq!(detail.releases[0].state, ReleaseState::Live);
        assert_eq!(house.render.state().services.len(), 1, "killed at {point}");
        assert!(house.call(&name).await.unwrap().contains("bridged"));
        house.end().await;
    }
    assert!(reached >= 6, "a release sends more requests than {reached}");
}
