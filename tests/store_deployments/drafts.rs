//! Drafts: their user's alone, kept as typed; and the inspections they ask for.

use std::collections::BTreeMap;

use sealport::model::drafts::{DraftForm, DraftPlain, InspectState};
use sealport::model::errors::RefusalKind;
use sealport::model::sources::{Inspection, Source};
use sealport::store::drafts::DRAFTS_OPEN_MAX;
use uuid::Uuid;

use crate::world::{World, assert_refused, id, spec};

fn form(source: &str) -> DraftForm {
    DraftForm {
        source_kind: "npm".into(),
        source: source.into(),
        ..DraftForm::default()
    }
}

fn inspection() -> Inspection {
    Inspection {
        resolved: Source::parse("npm:firecrawl-mcp@1.2.3").unwrap(),
        title: "Firecrawl".into(),
        description: "</script>'; --\0".into(),
        start: spec("x", vec![]).start,
        variables: vec![],
        notes: vec![],
    }
}

fn no_errors() -> BTreeMap<String, String> {
    BTreeMap::new()
}

#[tokio::test]
async fn a_draft_keeps_what_was_typed() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let db = &world.db;
    let draft = db.draft_create(&ada).await.unwrap();
    let mut typed = form("'; drop table drafts; -- <script>");
    typed.plain.push(DraftPlain {
        env: "not valid!".into(),
        text: "\\u0000 stays".into(),
        kept_plain: false,
    });
    let errors = BTreeMap::from([(
        "plain.0.env".to_owned(),
        "Letters, digits and underscores.".to_owned(),
    )]);
    db.draft_save(&ada, draft, &typed, &errors, false)
        .await
        .unwrap();
    let read = db.draft(&ada, draft).await.unwrap();
    assert_eq!(
        (&read.form, &read.errors, &read.inspecting),
        (&typed, &errors, &InspectState::Idle)
    );
    assert_eq!(db.drafts_list(&ada).await.unwrap(), [read]);
    // PostgreSQL has no NUL in text; it goes, and nothing breaks.
    let mut nul = typed.clone();
    nul.source.push('\0');
    db.draft_save(&ada, draft, &nul, &no_errors(), false)
        .await
        .unwrap();
    assert_eq!(db.draft(&ada, draft).await.unwrap().form, typed);
    let mut large = typed.clone();
    large.source = "x".repeat(300_000);
    assert_refused(
        db.draft_save(&ada, draft, &large, &no_errors(), false)
            .await,
        RefusalKind::Invalid,
        None,
    );

    db.deployment_create(&ada, Some(draft), &spec("crawl", vec![]))
        .await
        .unwrap();
    assert_refused(
        db.draft_save(&ada, draft, &typed, &no_errors(), false)
            .await,
        RefusalKind::Conflict,
        None,
    );
    assert!(db.drafts_list(&ada).await.unwrap().is_empty());
    db.draft_delete(&ada, draft).await.unwrap();
    assert_refused(db.draft(&ada, draft).await, RefusalKind::NotFound, None);
}

#[tokio::test]
async fn anothers_draft_is_neither_seen_nor_changed() {
    let world = World::new().await;
    let (ada, eve) = (world.user("ada").await, world.user("eve").await);
    let db = &world.db;
    let draft = db.draft_create(&ada).await.unwrap();
    db.draft_save(&ada, draft, &form("mine"), &no_errors(), true)
        .await
        .unwrap();
    let before = world.dump_of("drafts").await;
    let not_found = RefusalKind::NotFound;
    assert!(db.drafts_list(&eve).await.unwrap().is_empty());
    assert_refused(db.draft(&eve, draft).await, not_found, None);
    assert_refused(
        db.draft_save(&eve, draft, &form("hers"), &no_errors(), true)
            .await,
        not_found,
        None,
    );
    assert_refused(db.draft_delete(&eve, draft).await, not_found, None);
    let nobody = sealport::model::actors::Caller {
        actor: sealport::model::actors::Actor::Anonymous(
            sealport::model::actors::Presented::Nothing,
        ),
        origin: Default::default(),
    };
    assert_refused(
        db.draft(&nobody, draft).await,
        RefusalKind::Unauthenticated,
        None,
    );
    assert_eq!(world.dump_of("drafts").await, before);
}

#[tokio::test]
async fn drafts_are_bounded() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    world
        .sql(&format!(
            "insert into drafts (id, user_id, form) select gen_random_uuid(), '{}', '{{}}' from generate_series(1, {DRAFTS_OPEN_MAX})",
            id(&ada)
        ))
        .await;
    assert_refused(
        world.db.draft_create(&ada).await,
        RefusalKind::TooMany,
        None,
    );
    // A form of an older shape reads as far as it can.
    assert_eq!(
        world.db.drafts_list(&ada).await.unwrap().len(),
        usize::try_from(DRAFTS_OPEN_MAX).unwrap()
    );
    let eve = world.user("eve").await;
    world.db.draft_create(&eve).await.unwrap();
}

#[tokio::test]
async fn an_inspection_is_claimed_once_and_its_end_is_kept() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let db = &world.db;
    let holder = Uuid::now_v7();
    let draft = db.draft_create(&ada).await.unwrap();
    assert!(db.inspect_claim(holder).await.unwrap().is_none());
    db.draft_save(&ada, draft, &form("firecrawl-mcp"), &no_errors(), true)
        .await
        .unwrap();
    let (one, other) = tokio::join!(db.inspect_claim(holder), db.inspect_claim(Uuid::now_v7()));
    let mut tasks: Vec<_> = [one.unwrap(), other.unwrap()]
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(tasks.len(), 1);
    let task = tasks.remove(0);
    assert_eq!(
        (task.draft_id, task.user_id, task.administrator),
        (draft, id(&ada), false)
    );
    assert_eq!(task.form.source, "firecrawl-mcp");
    db.inspect_progress(&task, "Fetching firecrawl-mcp")
        .await
        .unwrap();
    let step = InspectState::Running {
        step: "Fetching firecrawl-mcp".into(),
    };
    assert_eq!(db.draft(&ada, draft).await.unwrap().inspecting, step);
    db.inspect_end(&task, Ok(inspection())).await.unwrap();
    let read = db.draft(&ada, draft).await.unwrap();
    assert_eq!(read.inspecting, InspectState::Done);
    assert_eq!(read.inspection.unwrap().description, "</script>'; --");
    // What comes after the end is dropped.
    db.inspect_progress(&task, "late").await.unwrap();
    db.inspect_end(&task, Err("late".into())).await.unwrap();
    assert_eq!(
        db.draft(&ada, draft).await.unwrap().inspecting,
        InspectState::Done
    );
}

#[tokio::test]
async fn the_end_of_an_older_sources_inspection_is_dropped() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let db = &world.db;
    let holder = Uuid::now_v7();
    let draft = db.draft_create(&ada).await.unwrap();
    db.draft_save(&ada, draft, &form("older"), &no_errors(), true)
        .await
        .unwrap();
    let older = db.inspect_claim(holder).await.unwrap().unwrap();
    db.draft_save(&ada, draft, &form("newer"), &no_errors(), true)
        .await
        .unwrap();
    db.inspect_end(&older, Ok(inspection())).await.unwrap();
    assert_eq!(db.draft(&ada, draft).await.unwrap().inspection, None);
    let newer = db.inspect_claim(holder).await.unwrap().unwrap();
    assert_eq!(newer.form.source, "newer");
    db.inspect_end(&newer, Err("There is no such package.".into()))
        .await
        .unwrap();
    let failed = InspectState::Failed {
        reason: "There is no such package.".into(),
    };
    assert_eq!(db.draft(&ada, draft).await.unwrap().inspecting, failed);
}

#[tokio::test]
async fn an_inspection_whose_server_was_lost_is_taken_up_three_times() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let db = &world.db;
    let draft = db.draft_create(&ada).await.unwrap();
    db.draft_save(&ada, draft, &form("bomb"), &no_errors(), true)
        .await
        .unwrap();
    for _ in 0..3 {
        assert!(db.inspect_claim(Uuid::now_v7()).await.unwrap().is_some());
        assert!(db.inspect_claim(Uuid::now_v7()).await.unwrap().is_none());
        world
            .sql("update drafts set inspect_until = now() - interval '1 second'")
            .await;
    }
    assert!(db.inspect_claim(Uuid::now_v7()).await.unwrap().is_none());
    let state = db.draft(&ada, draft).await.unwrap().inspecting;
    assert!(matches!(state, InspectState::Failed { .. }), "{state:?}");
    // Saving the source anew tries anew.
    db.draft_save(&ada, draft, &form("bomb"), &no_errors(), true)
        .await
        .unwrap();
    assert!(db.inspect_claim(Uuid::now_v7()).await.unwrap().is_some());
}
