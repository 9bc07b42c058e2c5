//! Who calls in the permission table, what is theirs, and the test that holds the table.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use sealport::model::actors::Caller;
use sealport::model::deployments::{Binding, Bound};
use sealport::model::drafts::DraftForm;
use sealport::model::imports::Destination;
use sealport::model::paths::{DeploymentName, EnvName, Handle, SecretPath};
use sealport::store::secrets::{NewSecret, NewValue, SecretEdit};
use secrecy::SecretString;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::table::{self, CALLERS, Row};
use crate::world;
use crate::{Browser, Installation, Things, walk};

/// Somebody who has `use` on some of the owner's things, and is a member of the teams.
pub const OTHER: &str = "bystander";

/// What the callers of a deployment bring.
pub const OWN_KEY: &str = "OWN_KEY";

/// The people of the table. The team of a row is made anew with its things, by `maker`.
pub struct Callers {
    owner: Caller,
    maker: Caller,
    /// With `use`, `read`, `write`, `admin`.
    given: Vec<Caller>,
    members: Vec<Caller>,
    stranger: Caller,
    ended: Caller,
    other: Caller,
    /// One for each of [`CALLERS`].
    browsers: Vec<Browser>,
}

impl Callers {
    async fn new(house: &Installation) -> Callers {
        let (mut given, mut members) = (Vec::new(), Vec::new());
        for level in ["use", "read", "write", "admin"] {
            given.push(house.person(&format!("given-{level}")).await);
            members.push(house.person(&format!("member-{level}")).await);
        }
        let mut callers = Callers {
            owner: house.person("ownera").await,
            maker: house.person("makerm").await,
            stranger: house.person("strangerb").await,
            ended: house.person("endede").await,
            other: house.person(OTHER).await,
            given,
            members,
            browsers: Vec::new(),
        };
        for place in 0..CALLERS.len() {
            let browser = callers.browser(house, place).await;
            callers.browsers.push(browser);
        }
        let ended = world::id(&callers.ended);
        house
            .world
            .sql(&format!(
                "set sealport.job = 'operator';
                 update users set ended_at = now() where id = '{ended}'; update owners set ended_at = now() where id = '{ended}'"
            ))
            .await;
        callers
    }

    async fn sign_in_all(&mut self, house: &Installation) {
        for place in 0..CALLERS.len() {
            // Who has ended keeps the browser of before.
            if self.caller(place) != Some(&self.ended) {
                self.browsers[place] = self.browser(house, place).await;
            }
        }
    }

    /// Signed in anew, whoever can.
    async fn browser(&self, house: &Installation, place: usize) -> Browser {
        match self.caller(place) {
            Some(caller) => house.signed_in(caller).await,
            None => Browser::default(),
        }
    }

    fn caller(&self, place: usize) -> Option<&Caller> {
        match place {
            0 => Some(&self.owner),
            1..=4 => self.given.get(place - 1),
            5..=8 => self.members.get(place - 5),
            9 | 10 => Some(&self.stranger),
            11 => Some(&self.ended),
            _ => None,
        }
    }
}

impl Installation {
    /// A secret that is bound, one that is free, a draft, a deployment and a token of its gateway; a team.
    pub async fn things(&self, owner: &Caller, number: usize) -> Things {
        self.things_of(owner, None, &number.to_string()).await
    }

    /// The same, owned by a team of the maker's where one is named.
    async fn things_of(&self, maker: &Caller, team: Option<&Handle>, number: &str) -> Things {
        let db = &self.world.db;
        let path = format!("OWNERS_KEY_{number}_X");
        let name = format!("owners-server-{number}-x");
        let made = async |at: &str, value: &str| {
            let new = NewSecret {
                tags: Vec::new(),
                owner: team.cloned(),
                path: SecretPath::parse(at).unwrap(),
                value: NewValue::Typed(SecretString::from(value)),
                kind: Default::default(),
                description: String::new(),
                expires_at: None,
            };
            db.secret_create(maker, new).await.unwrap()
        };
        let secret = made(&path, "a value to keep").await;
        let free = made(&format!("{path}_FREE"), "another value").await;
        static MADE: AtomicU32 = AtomicU32::new(0);
        let made_before = MADE.fetch_add(1, Ordering::Relaxed);
        // An older version, and one that ends soon.
        let newer = NewValue::generated(32);
        db.secret_replace(maker, free, 1, newer).await.unwrap();
        let soon = SecretEdit {
            // Sooner than all before it: what is due first stands first.
            expires_at: Some(Some(
                OffsetDateTime::now_utc() + Duration::days(3)
                    - Duration::minutes(made_before.into()),
            )),
            ..SecretEdit::default()
        };
        db.secret_edit(maker, secret, soon).await.unwrap();
        let binding = world::secret(&format!("OWNERS_ENV_{number}_X"), secret);
        let mut spec = world::spec(&name, vec![binding]);
        spec.owner = team.cloned();
        db.deployment_create(maker, None, &spec).await.unwrap();
        let deployment = DeploymentName::parse(&name).unwrap();
        let label = format!("owners-client-{number}-x");
        let token = db.gateway_token_create(maker, &deployment, &label, None);
        let token = token.await.unwrap();
        let draft = db.draft_create(maker).await.unwrap();
        let form = DraftForm {
            source_kind: "npm".into(),
            source: format!("owners-package-{number}-x"),
            name: format!("owners-draft-{number}-x"),
            ..DraftForm::default()
        };
        db.draft_save(maker, draft, &form, &Default::default(), false)
            .await
            .unwrap();
        let file = format!("{path}_WAITS=a value that waits");
        db.import_keep(maker, &Destination::default(), file.as_bytes())
            .await
            .unwrap();
        let import = db.import_waiting(maker).await.unwrap().unwrap().id;
        let ids = [secret, free, draft, import, token.id].map(|id| id.to_string());
        let mut marks = vec![
            path.clone(),
            name.clone(),
            format!("OWNERS_ENV_{number}_X"),
            label,
            form.source,
            form.name,
            token.token.clone(),
        ];
        marks.extend(ids);
        Things {
            owner_id: world::id(maker),
            handle: team.map_or(maker.user().unwrap().handle.clone(), Handle::to_string),
            team: team.map_or(String::new(), Handle::to_string),
            team_id: world::id(maker),
            prefix: format!("project/owners-{number}-x"),
            grant: Uuid::now_v7(),
            path,
            secret,
            free,
            draft,
            import,
            own: format!("owners-own-{number}-x"),
            name,
            token_id: token.id,
            token: token.token,
            marks,
        }
    }

    /// A deployment whose callers bring a key of their own.
    async fn make_own(&self, maker: &Caller, team: Option<&Handle>, things: &mut Things) {
        let said = format!("said-of-{}", things.own);
        let brought = Binding {
            env: EnvName::parse(OWN_KEY).unwrap(),
            to: Bound::PerUser {
                description: said.clone(),
            },
        };
        let mut spec = world::spec(&things.own, vec![brought]);
        spec.owner = team.cloned();
        let db = &self.world.db;
        db.deployment_create(maker, None, &spec).await.unwrap();
        things.marks.extend([things.own.clone(), said]);
    }

    /// A person's things, shared with those to whom something is given.
    async fn shared_things(&self, callers: &Callers, number: &str) -> Things {
        self.tidy(&callers.owner).await;
        let mut things = self.things_of(&callers.owner, None, number).await;
        self.make_own(&callers.owner, None, &mut things).await;
        let team = Handle::parse(&format!("owners-team-{number}-x")).unwrap();
        let team_id = self
            .world
            .db
            .team_create(&callers.owner, &team)
            .await
            .unwrap();
        (things.team, things.team_id) = (team.to_string(), team_id);
        things.marks.extend([things.team.clone(), things.giver()]);
        let mut sql = self.bystander(&things, callers, team_id);
        let ended = (&callers.ended, 4);
        for (who, level) in callers.given.iter().zip(1..).chain([ended]) {
            for (column, object) in things.objects() {
                sql += &grant(
                    &things,
                    Uuid::now_v7(),
                    &column,
                    &object,
                    world::id(who),
                    level,
                );
            }
        }
        self.world.sql(&sql).await;
        things
    }

    /// A team's things, with its members.
    async fn team_things(&self, callers: &Callers, number: &str) -> Things {
        self.tidy(&callers.maker).await;
        let team = Handle::parse(&format!("owners-team-{number}-x")).unwrap();
        let team_id = self
            .world
            .db
            .team_create(&callers.maker, &team)
            .await
            .unwrap();
        let mut things = self.things_of(&callers.maker, Some(&team), number).await;
        self.make_own(&callers.maker, Some(&team), &mut things)
            .await;
        (things.owner_id, things.team_id) = (team_id, team_id);
        things.marks.extend([things.team.clone(), things.giver()]);
        let mut sql = self.bystander(&things, callers, team_id);
        for (who, level) in callers.members.iter().zip(1..) {
            let who = world::id(who);
            sql += &format!(
                "insert into team_members (team_id, user_id, level, added_by) values ('{team_id}', '{who}', {level}, 'x');"
            );
        }
        self.world.sql(&sql).await;
        things
    }

    /// Ends what counts for limits of one person; it served its row.
    async fn tidy(&self, maker: &Caller) {
        let maker = world::id(maker);
        self.world
            .sql(&format!(
                "delete from drafts where user_id = '{maker}'; set session_replication_role = replica;
                 update owners set ended_at = now() where maker_id = '{maker}' and ended_at is null"
            ))
            .await;
    }

    fn bystander(&self, things: &Things, callers: &Callers, team_id: Uuid) -> String {
        let other = world::id(&callers.other);
        let mut sql = format!(
            "insert into team_members (team_id, user_id, level, added_by) values ('{team_id}', '{other}', 1, '{}');",
            things.giver()
        );
        for (number, (column, object)) in things.objects().into_iter().enumerate() {
            let id = if number == 0 {
                things.grant
            } else {
                Uuid::now_v7()
            };
            sql += &grant(things, id, &column, &object, other, 1);
        }
        sql
    }

    /// Things for that column, as new.
    async fn things_for(&self, callers: &Callers, place: usize, number: &str) -> Things {
        if (5..=8).contains(&place) {
            self.team_things(callers, number).await
        } else {
            self.shared_things(callers, number).await
        }
    }
}

impl Things {
    /// As whom the shares of these things are said to be given: what shows it, shows them.
    fn giver(&self) -> String {
        format!("giver-of-{}", self.name)
    }

    /// What a level is given on: the column of a grant, and what stands in it, as SQL.
    fn objects(&self) -> [(String, String); 5] {
        let deployment = |name: &str| {
            let id = format!("(select id from deployments where name = '{name}')");
            ("deployment_id".into(), id)
        };
        [
            ("secret_id".into(), format!("'{}'", self.secret)),
            ("secret_id".into(), format!("'{}'", self.free)),
            ("prefix".into(), format!("'{}'", self.prefix)),
            deployment(&self.name),
            deployment(&self.own),
        ]
    }
}

fn grant(things: &Things, id: Uuid, column: &str, object: &str, to: Uuid, level: i32) -> String {
    let (owner, giver) = (things.owner_id, things.giver());
    format!(
        "insert into grants (id, owner_id, {column}, grantee_id, level, granted_by, granted_by_name)
         values ('{id}', '{owner}', {object}, '{to}', {level}, '{owner}', '{giver}');"
    )
}

#[tokio::test]
async fn every_door_gives_each_caller_what_the_table_says() {
    let all = table::rows(table::TABLE);
    let told: BTreeSet<String> = all.iter().map(Row::name).collect();
    let calls: BTreeSet<(String, &str)> = all.iter().map(|row| (row.name(), row.form)).collect();
    assert_eq!(calls.len(), all.len(), "a call has two rows");
    let real = walk::routes();
    let without_row: Vec<_> = real.difference(&told).collect();
    let of_nothing: Vec<_> = told.difference(&real).collect();
    assert!(
        without_row.is_empty() && of_nothing.is_empty(),
        "routes without a row: {without_row:?}; rows without a route: {of_nothing:?}"
    );

    let house = Installation::new().await;
    let mut callers = Callers::new(&house).await;
    let mut wrong = Vec::new();
    println!("{}", legend());
    // While one works on a route: ROW=share cargo test --test doors every_door
    let only = std::env::var("ROW").unwrap_or_default();
    let rows = all
        .into_iter()
        .chain(table::rows(table::BESIDE_ROUTES))
        .filter(|row| row.route.contains(&only));
    for (number, row) in rows.enumerate() {
        let got = house.row(&mut callers, &row, number, &mut wrong).await;
        let letters = got.join("");
        if row.route == "/_fn/sessions_end_others" {
            // The stranger has two browsers here: the one ended the other's session.
            callers.sign_in_all(&house).await;
        }
        println!("{:42} {}", row.name(), spaced(&letters));
        if letters != row.expected {
            wrong.push(format!(
                "{} {}: {}, not {}",
                row.name(),
                row.form,
                spaced(&letters),
                spaced(&row.expected)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Installation {
    /// What each caller gets. Things serve until somebody has done something to them.
    async fn row(
        &self,
        callers: &mut Callers,
        row: &Row,
        number: usize,
        wrong: &mut Vec<String>,
    ) -> Vec<&'static str> {
        let mut got = vec![""; CALLERS.len()];
        let guess = Things::guessed();
        let mut kept: [Option<(Things, BTreeSet<String>)>; 2] = [None, None];
        // Strangers first: what they leave is what the others then find. The owner last.
        for place in (1..CALLERS.len()).rev().chain([0]) {
            let kind = usize::from((5..=8).contains(&place));
            let (things, mut before) = match kept[kind].take() {
                Some(kept) => kept,
                None => {
                    let things = self
                        .things_for(callers, place, &format!("{number}x{place}"))
                        .await;
                    let before = self.rows_of(&things).await;
                    assert!(before.len() >= 8, "the owner has rows: {before:#?}");
                    (things, before)
                }
            };
            // Signing out ends a session for good; each column gets one of its own.
            let mut browser = callers.browsers[place].clone();
            if row.route == "/sign-out" && place < 11 {
                browser = callers.browser(self, place).await;
                // Of the owner, that is noted.
                before = self.rows_of(&things).await;
            }
            let guessed = (place == 10).then_some(&guess);
            let (word, answer) = self.outcome(&mut browser, row, &things, guessed, &[]).await;
            let changed = self.rows_of(&things).await != before;
            got[place] = match (word, changed) {
                ("done", true) => "d",
                ("done", false) => "m",
                (other, true) => {
                    wrong.push(format!(
                        "{}: {other}, and it changed rows, for {}",
                        row.name(),
                        CALLERS[place]
                    ));
                    other
                }
                (other, false) => other,
            };
            if place >= 9 && answer.text.contains("ownera@") {
                wrong.push(format!("{}: tells the owner's e-mail", row.name()));
            }
            if place == 9 {
                let owners = callers.browsers[0].clone();
                wrong.extend(self.by_other_doors(row, &things, &owners).await);
                if self.rows_of(&things).await != before {
                    wrong.push(format!("{}: changed by another door", row.name()));
                }
            }
            if !changed {
                kept[kind] = Some((things, before));
            }
        }
        got
    }
}

/// The names of the columns, downwards over their letters.
fn legend() -> String {
    let width = CALLERS.iter().map(|name| name.len()).max().unwrap_or(0);
    let mut lines = vec![
        "s shown, o answered with nothing of the owner's, d done, m done on nothing of the owner's, n as if it did not exist,\n\
         r refused, i led to signing in"
            .to_owned(),
    ];
    for line in 0..width {
        let letters: String = CALLERS
            .iter()
            .map(|name| {
                let padding = width - name.len();
                name.chars().nth(line.wrapping_sub(padding)).unwrap_or(' ')
            })
            .collect();
        lines.push(format!("{:42} {}", "", spaced(&letters)));
    }
    lines.join("\n")
}

/// The groups of callers apart.
fn spaced(letters: &str) -> String {
    let letters: Vec<char> = letters.chars().collect();
    let group = |from: usize, to: usize| -> String {
        letters[from.min(letters.len())..to.min(letters.len())]
            .iter()
            .collect()
    };
    [
        group(0, 1),
        group(1, 5),
        group(5, 9),
        group(9, 11),
        group(11, 13),
    ]
    .join(" ")
}
