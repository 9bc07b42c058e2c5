//! A trial of Render.

use std::collections::BTreeMap;

use async_trait::async_trait;
use secrecy::SecretString;
use time::OffsetDateTime;
use url::Url;

use super::building::word;
use super::lines::stand_of;
use super::{created, owner_of, says};
use crate::deploy::providers::Trouble;
use crate::deploy::providers::render::{
    Account, LogKind, LogMark, NewService, Plan, Region, Render, ServiceSource,
};
use crate::deploy::sources::SourceHosts;
use crate::deploy::targets::trial::{Tried, Wanted, Why};
use crate::deploy::targets::watching::Stand;
use crate::model::paths::EnvName;
use crate::model::targets::AccountSays;

pub(in crate::deploy::targets) struct RenderTrial {
    render: Render,
    wanted: Wanted,
    account: Option<Account>,
    new: Option<NewService>,
    /// It was asked to make it: from then on there may be something.
    asked: bool,
    service: Option<String>,
    page: Option<Url>,
    deploy: Option<String>,
    mark: LogMark,
}

impl RenderTrial {
    /// Errors: a sentence.
    pub fn new(
        api: Url,
        key: SecretString,
        hosts: SourceHosts,
        wanted: Wanted,
    ) -> Result<Self, String> {
        Ok(RenderTrial {
            render: Render::new(api, key, hosts).map_err(|trouble| trouble.to_string())?,
            wanted,
            account: None,
            new: None,
            asked: false,
            service: None,
            page: None,
            deploy: None,
            mark: LogMark::at(OffsetDateTime::now_utc() - time::Duration::minutes(1)),
        })
    }

    fn chosen(&self) -> Result<&NewService, Why> {
        self.new
            .as_ref()
            .ok_or_else(|| Why::Says("It is not known where to make it.".into()))
    }

    fn made_id(&self) -> Result<&str, Why> {
        self.service
            .as_deref()
            .ok_or_else(|| Why::Says("There is no service.".into()))
    }

    /// The deploy that was told, or the newest.
    async fn begun(&mut self, told: Option<String>) -> Result<(), Why> {
        self.deploy = match told {
            Some(deploy) => Some(deploy),
            None => {
                let newest = self.render.deploys(self.made_id()?, 1).await?;
                newest.into_iter().next().map(|deploy| deploy.id)
            }
        };
        match self.deploy {
            Some(_) => Ok(()),
            None => Err(Why::Says(
                "Render tells of no deploy of the service.".into(),
            )),
        }
    }

    /// The ids of all that may be ours: what was noted, and what has the name that nobody else gives.
    async fn ours(&self) -> Result<Vec<String>, Why> {
        let new = self.chosen()?;
        let named = self.render.services_named(&new.owner, &new.name).await?;
        Ok(named.into_iter().map(|service| service.id).collect())
    }
}

#[async_trait]
impl Tried for RenderTrial {
    async fn check(&mut self) -> Result<AccountSays, Trouble> {
        let account = self.render.check().await?;
        let told = says(&account);
        self.account = Some(account);
        Ok(told)
    }

    fn choose(&mut self) -> Result<String, Why> {
        let Some(account) = &self.account else {
            return Err(Why::Says("The account was not looked at.".into()));
        };
        let options = &self.wanted.options;
        let owner = owner_of(account, options).map_err(|refusal| Why::Says(refusal.detail))?;
        let new = new_service(&self.wanted, options, owner)?;
        let place = format!(
            "from the image {} in the workspace {} at Render, region {}, plan {}",
            self.wanted.image, new.owner, new.region, new.plan
        );
        self.new = Some(new);
        Ok(place)
    }

    async fn make(&mut self, env: &[(EnvName, SecretString)]) -> Result<(), Why> {
        self.asked = true;
        let (service, deploy) = created(&self.render, self.chosen()?, env).await?;
        self.service = Some(service);
        self.deploy = deploy;
        Ok(())
    }

    async fn begin(&mut self, _: &[(EnvName, SecretString)]) -> Result<(), Why> {
        let told = self.deploy.clone();
        self.begun(told).await
    }

    async fn stand(&mut self) -> Result<Stand, Trouble> {
        let (Some(service), Some(deploy)) = (&self.service, &self.deploy) else {
            return Ok(Stand::Over("There is no deploy.".into()));
        };
        let state = self.render.deploy_state(service, deploy).await?;
        Ok(stand_of(&state))
    }

    async fn url(&mut self) -> Result<Url, Why> {
        let service = self.render.service(self.made_id()?).await?;
        self.page = service.dashboard_url;
        service
            .url
            .ok_or_else(|| Why::Says("Render tells no address of the service.".into()))
    }

    async fn lines(&mut self) -> Result<Vec<String>, Trouble> {
        let (Some(service), Some(new)) = (&self.service, &self.new) else {
            return Ok(Vec::new());
        };
        let (lines, next) = self.render.logs(&new.owner, service, &self.mark).await?;
        self.mark = next;
        let lines = lines.into_iter();
        Ok(lines
            .filter(|line| line.kind != LogKind::Build)
            .map(|line| line.text)
            .collect())
    }

    async fn change(
        &mut self,
        set: &[(EnvName, SecretString)],
        remove: &[EnvName],
    ) -> Result<(), Why> {
        let service = self.made_id()?;
        Ok(self.render.set_env(service, set, remove).await?)
    }

    async fn names(&mut self) -> Result<Vec<String>, Why> {
        Ok(self.render.env_vars(self.made_id()?).await?)
    }

    async fn again(&mut self) -> Result<(), Why> {
        let told = self.render.deploy(self.made_id()?, None).await?;
        self.begun(told).await
    }

    async fn stop(&mut self) -> Result<(), Why> {
        Ok(self.render.suspend(self.made_id()?).await?)
    }

    async fn is_stopped(&mut self) -> Result<bool, Why> {
        Ok(self.render.service(self.made_id()?).await?.suspended)
    }

    async fn remove(&mut self) -> Result<(), Why> {
        if let Some(service) = &self.service {
            self.render.delete(service).await?;
        }
        for id in self.ours().await? {
            self.render.delete(&id).await?;
        }
        // What is asked for may come to be after it was looked for.
        match self.ours().await?.as_slice() {
            [] => Ok(()),
            _ => Err(Why::Says("Render is still removing the service.".into())),
        }
    }

    fn made(&self) -> Vec<String> {
        if !self.asked {
            return Vec::new();
        }
        let name = &self.wanted.name;
        vec![match (&self.service, &self.page) {
            (Some(id), Some(page)) => format!("the service {name} ({id}): {page}"),
            (Some(id), None) => format!("the service {name} ({id})"),
            (None, _) => format!("perhaps the service {name}"),
        }]
    }
}

fn new_service(
    wanted: &Wanted,
    options: &BTreeMap<String, String>,
    owner: String,
) -> Result<NewService, Why> {
    Ok(NewService {
        owner,
        name: wanted.name.clone(),
        source: ServiceSource::Image {
            path: wanted.image.clone(),
            command: Some(wanted.command.clone()),
        },
        region: word(
            options,
            "region",
            Region::Oregon,
            Region::parse,
            Region::ALL,
        )?,
        // Enough for a trial, and free.
        plan: word(options, "plan", Plan::Free, Plan::parse, Plan::ALL)?,
        health_check_path: None,
    })
}
