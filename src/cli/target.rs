//! `sealport target check`: what a key can do at its provider, and with `--live` whether Sealport makes, changes and removes a service there
//! as it should. It needs no server, so the key comes by standard input alone: `secret get` pipes one that is stored.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::config::{ProviderApis, source_host};
use super::failures::{Exit, Failure};
use super::serve::StopSignal;
use super::{shown, typed};
use crate::deploy::sources::SourceHosts;
use crate::deploy::trial::{IMAGE, LOOK_EVERY, Outcome, Told, Trial, TrialAsk};
use crate::model::targets::{AccountSays, Target};

#[derive(Subcommand)]
pub enum TargetCommand {
    /// Says what a provider's key can do there. The key comes from standard input or a hidden prompt. With --live it makes a tiny service,
    /// changes it, deploys it again, stops it and removes it, and says what that proved.
    Check(Box<CheckArgs>),
}

#[derive(Args)]
pub struct CheckArgs {
    /// Where it is looked.
    #[arg(value_enum)]
    provider: Provider,

    /// What stands where a key would: it is refused.
    #[arg(hide = true, num_args = 0.., allow_hyphen_values = true)]
    refused: Vec<OsString>,

    /// Make a tiny service, and remove it in the end, however that comes. Takes some minutes, for which the provider may charge.
    #[arg(long)]
    live: bool,

    /// Do not ask before something is made. Needed where the key is piped in.
    #[arg(long, requires = "live")]
    yes: bool,

    /// At Render owner, region and plan (free unless said), at Railway workspace, project and environment. Can be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::deploy::option)]
    option: Vec<(String, String)>,

    /// What the service is made from: an image with sh, sha256sum and httpd, as busybox has them.
    #[arg(long, requires = "live", default_value = IMAGE)]
    image: String,

    #[command(flatten)]
    apis: ProviderApis,

    /// Hosts, or networks, that may be asked although they are private; loopback included.
    #[arg(long, env = "SEALPORT_SOURCE_HOSTS", value_delimiter = ',', value_parser = source_host)]
    source_hosts: Vec<String>,

    #[arg(long, hide = true, value_name = "MILLISECONDS", default_value_t = LOOK_EVERY.as_millis() as u64)]
    look_every: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Provider {
    Render,
    Railway,
}

impl Provider {
    fn target(self) -> Target {
        match self {
            Provider::Render => Target::Render,
            Provider::Railway => Target::Railway,
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Provider::Render => &["owner", "region", "plan"],
            Provider::Railway => &["workspace", "project", "environment"],
        }
    }

    /// What a trial may cost.
    fn costs(self) -> &'static str {
        match self {
            Provider::Render => {
                "Render charges nothing for the plan free; for another it may charge the minutes that this takes."
            }
            Provider::Railway => {
                "Railway counts what it uses in the minutes that this takes, and may charge it."
            }
        }
    }
}

pub async fn run(command: TargetCommand) -> anyhow::Result<Exit> {
    match command {
        TargetCommand::Check(args) => check(*args).await,
    }
}

async fn check(args: CheckArgs) -> anyhow::Result<Exit> {
    let target = args.provider.target();
    let command = format!("target check {target}", target = target.as_str());
    typed::refuse_argument(&args.refused, &command, "key")?;
    let options = options(&args)?;
    if args.live && !args.yes && !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "With --live something is made at the provider, and where the key is piped in nobody can be asked before. Give --yes. Nothing was done.",
        )
        .into());
    }
    let mut trial = Trial::new(TrialAsk {
        target,
        key: typed::value(&format!("Key of {}", target.title()), false)?,
        api: match args.provider {
            Provider::Render => args.apis.render_api,
            Provider::Railway => args.apis.railway_api,
        },
        hosts: SourceHosts::new(args.source_hosts),
        options,
        image: args.image,
        look_every: Duration::from_millis(args.look_every),
    })
    .await
    .map_err(no)?;
    tell_account(&trial.check().await.map_err(no)?)?;
    if !args.live {
        return Ok(Exit::Done);
    }
    let what = trial.choose().map_err(no)?;
    shown::line(shown::plain(&format!(
        "It makes {what}, and removes it in the end. {}",
        args.provider.costs()
    )))?;
    if !args.yes {
        sure()?;
    }
    let outcome = tried(&mut trial).await?;
    end(target.title(), &outcome)
}

/// Errors: one that there is not; it is not repeated, for it may be the key.
fn options(args: &CheckArgs) -> Result<BTreeMap<String, String>, Failure> {
    let known = args.provider.options();
    let said = args.option.iter();
    if said
        .clone()
        .any(|(name, _)| !known.contains(&name.as_str()))
    {
        return Err(Failure::usage(format!(
            "The options here are {}. Nothing was sent.",
            known.join(", ")
        )));
    }
    let said = said.map(|(name, value)| (name.clone(), value.trim().to_owned()));
    Ok(said.filter(|(_, value)| !value.is_empty()).collect())
}

fn tell_account(says: &AccountSays) -> std::io::Result<()> {
    shown::line(shown::plain(&says.sentence))?;
    for place in &says.places {
        let line = format!("  {:<12} {}  {}", place.kind, place.name, place.id);
        shown::line(shown::plain(&line))?;
    }
    if says.cut {
        shown::line("  and more")?;
    }
    Ok(())
}

fn sure() -> anyhow::Result<()> {
    match typed::line("Go on? [y/N] ")? {
        Some(answer) if ["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()) => Ok(()),
        _ => Err(Failure::new(Exit::No, "Nothing was made.").into()),
    }
}

/// All of it, with its removing: a signal ends the steps, and only a second one the removing.
async fn tried(trial: &mut Trial) -> anyhow::Result<Outcome> {
    let mut signals = Signals::listen()?;
    let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
    let heard = tokio::spawn({
        let (stop, give_up) = (stop.clone(), give_up.clone());
        async move {
            signals.next().await;
            shown::aside(
                "Interrupted: what was made is removed. Interrupting once more leaves it there.",
            );
            stop.cancel();
            signals.next().await;
            give_up.cancel();
        }
    });
    let outcome = trial.run(&tell, &stop, &give_up).await;
    heard.abort();
    Ok(outcome)
}

struct Signals {
    stop: StopSignal,
    /// The terminal was closed.
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            stop: StopSignal::listen()?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            () = self.stop.wait() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Goes on when nobody reads it any more: what was made is removed all the same.
fn tell(told: Told) {
    let line = match &told {
        Told::Going(says) => format!("{:>18}{says}", ""),
        Told::Done { step, took, says } => {
            format!("{:>6.1} s  {step:<8}{says}", took.as_secs_f64())
        }
        Told::Failed { step, took, says } => {
            format!("{:>6.1} s  {step:<8}failed: {says}", took.as_secs_f64())
        }
    };
    let _ = shown::line(shown::plain(&line));
}

fn end(title: &str, outcome: &Outcome) -> anyhow::Result<Exit> {
    let proved = match outcome.proved.as_slice() {
        [] => "nothing".to_owned(),
        proved => proved.join(", "),
    };
    let _ = shown::line(format!("Proved at {title}: {proved}."));
    let left = match outcome.left.as_slice() {
        [] => "Nothing of it is left there.".to_owned(),
        left => format!("Left there: {}. Remove it at {title}.", left.join("; ")),
    };
    match &outcome.failed {
        None => {
            let _ = shown::line(format!("All went well at {title}. {left}"));
            Ok(Exit::Done)
        }
        Some((step, says)) => {
            let says = format!("It failed at the step {step}: {says} {left}");
            Err(no(shown::plain(&says).into_owned()).into())
        }
    }
}

fn no(says: String) -> Failure {
    Failure::new(Exit::No, says)
}
