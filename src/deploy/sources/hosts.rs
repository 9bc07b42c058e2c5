//! Which hosts a repository may be fetched from: public ones, and those that the administrator lists.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

/// What `SEALPORT_SOURCE_HOSTS` names: `host` (every port), `host:port`, an address, or a network as `10.0.0.0/8`.
#[derive(Clone, Debug, Default)]
pub struct SourceHosts {
    /// In lower case.
    names: Vec<String>,
    networks: Vec<IpNet>,
}

/// A host that was looked at and may be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AllowedHost {
    pub name: String,
    pub port: u16,
    /// The address that was looked at: what is asked, so that a second answer of the resolver cannot be another.
    pub address: IpAddr,
}

/// Why a host may not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deploy) enum Unfit {
    /// It has no address.
    Unknown,
    /// It has one that is not public, and is not listed.
    Private,
}

impl SourceHosts {
    pub fn new(listed: impl IntoIterator<Item = String>) -> Self {
        let mut hosts = SourceHosts::default();
        for entry in listed {
            let entry = entry.trim().to_ascii_lowercase();
            match entry.parse::<IpNet>() {
                Ok(network) => hosts.networks.push(network),
                Err(_) if entry.is_empty() => {}
                Err(_) => hosts.names.push(entry),
            }
        }
        hosts
    }

    /// The addresses behind what is listed that are not public, for the sandbox: guests reach no others of that kind.
    /// Names are resolved now, so a name that moves needs a restart.
    pub async fn private_networks(&self) -> Vec<IpNet> {
        let mut networks = self.networks.clone();
        for name in &self.names {
            let host = match name.rsplit_once(':') {
                Some((host, port)) if port.parse::<u16>().is_ok() => host,
                _ => name,
            };
            let addresses = resolve(host.trim_matches(['[', ']']), 443).await;
            if addresses.is_empty() {
                tracing::warn!(
                    host,
                    "SEALPORT_SOURCE_HOSTS names a host that cannot be found now"
                );
            }
            for address in addresses {
                let network = IpNet::from(address);
                if !is_public(address) && !networks.contains(&network) {
                    networks.push(network);
                }
            }
        }
        networks
    }

    /// The addresses of a host that may be asked. `host` is in lower case, an IPv6 address without brackets.
    pub(in crate::deploy) async fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<IpAddr>, Unfit> {
        let addresses = resolve(host, port).await;
        if addresses.is_empty() {
            return Err(Unfit::Unknown);
        }
        let listed = self.lists(host, port) || self.lists(&format!("[{host}]"), port);
        if listed || addresses.iter().all(|address| self.allows(*address)) {
            Ok(addresses)
        } else {
            Err(Unfit::Private)
        }
    }

    /// Whether the administrator lists the host by its name.
    pub(in crate::deploy) fn lists(&self, host: &str, port: u16) -> bool {
        let with_port = format!("{host}:{port}");
        self.names
            .iter()
            .any(|listed| *listed == with_port || *listed == host)
    }

    /// Whether a host that is an address may be asked without being listed as such.
    pub(in crate::deploy) fn fits(&self, host: &str) -> bool {
        host.parse().is_ok_and(|address| self.allows(address))
    }

    fn allows(&self, address: IpAddr) -> bool {
        is_public(address)
            || self
                .networks
                .iter()
                .any(|network| network.contains(&address))
    }

    /// Resolves the host of a URL. Errors: a sentence, when it is no https URL, does not resolve, or is not public.
    pub(super) async fn check(&self, url: &str) -> Result<AllowedHost, String> {
        let url = Url::parse(url).map_err(|_| "That git URL cannot be read.".to_owned())?;
        if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
            return Err(
                "A git source is fetched over https, without a user name or password in its URL."
                    .into(),
            );
        }
        let name = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let port = url.port().unwrap_or(443);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let addresses = self
            .addresses(bare, port)
            .await
            .map_err(|unfit| match unfit {
                Unfit::Unknown => format!("The host {name} cannot be found. Look at the URL."),
                Unfit::Private => format!(
                    "The host {name} is on a private network. An administrator can allow it by listing it in SEALPORT_SOURCE_HOSTS."
                ),
            })?;
        // Guests reach out over IPv4 only.
        let address = addresses
            .iter()
            .find(|address| address.is_ipv4())
            .or(addresses.first())
            .ok_or("The host has no address.")?;
        Ok(AllowedHost {
            name: bare.to_owned(),
            port,
            address: *address,
        })
    }
}

/// The addresses of a name, or the address that it is. Empty when there is none within ten seconds.
async fn resolve(host: &str, port: u16) -> Vec<IpAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return vec![address];
    }
    let found = tokio::time::timeout(
        Duration::from_secs(10),
        tokio::net::lookup_host((host, port)),
    );
    match found.await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        _ => Vec::new(),
    }
}

/// Whether an address belongs to the public Internet, by the registries of special-purpose addresses
/// (RFC 6890 and its updates). An address that carries another one counts as that.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (18..20).contains(&b))
                || a >= 240)
        }
        IpAddr::V6(v6) => match carried(v6) {
            Some(v4) => is_public(v4),
            None => {
                let first = v6.segments()[0];
                // Global unicast is 2000::/3; everything else is local, multicast or unassigned.
                (first & 0xe000) == 0x2000
                    && !(first == 0x2001 && v6.segments()[1] == 0x0db8)
                    && !(first == 0x2001 && v6.segments()[1] < 0x0200)
            }
        },
    }
}

/// The IPv4 address inside a mapped, translated (64:ff9b::/96) or 6to4 address.
fn carried(v6: Ipv6Addr) -> Option<IpAddr> {
    let s = v6.segments();
    let from = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Some(IpAddr::from([a, b, c, d]))
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return Some(v4.into());
    }
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => from(high, low),
        [0x2002, high, low, ..] => from(high, low),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn private_places_are_not_public() {
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.5.5",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "140.82.121.4",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn a_private_host_is_asked_only_when_it_is_listed() {
        let none = SourceHosts::default();
        for url in [
            "https://127.0.0.1/x",
            "https://localhost/x",
            "https://localhost:8443/x",
            "https://[::1]/x",
            "https://169.254.169.254/latest",
            "https://2130706433/x",
            "https://0x7f.1/x",
            "https://127.1/x",
            "http://1.1.1.1/x",
            "https://user@1.1.1.1/x",
        ] {
            assert!(none.check(url).await.is_err(), "{url}");
        }
        assert!(none.check("https://1.1.1.1/x").await.is_ok());
        let listed = SourceHosts::new(["LocalHost:8443".to_owned(), "10.0.0.0/8".to_owned()]);
        assert!(
            listed
                .check("https://localhost:8443/x")
                .await
                .unwrap()
                .address
                .is_loopback()
        );
        assert!(listed.check("https://10.1.2.3:444/x").await.is_ok());
        for url in [
            "https://localhost/x",
            "https://localhost:8444/x",
            "https://127.0.0.1:8443/x",
            "https://11.0.0.1.nowhere.invalid/x",
            "https://192.168.1.1/x",
        ] {
            assert!(listed.check(url).await.is_err(), "{url}");
        }
        let any_port = SourceHosts::new(["127.0.0.1".to_owned()]);
        assert!(any_port.check("https://127.0.0.1:8443/x").await.is_ok());
    }

    #[tokio::test]
    async fn what_is_listed_and_private_is_opened_for_guests() {
        let listed = SourceHosts::new(
            ["localhost:8443", "10.0.0.0/8", "1.1.1.1", "192.168.1.5"].map(str::to_owned),
        );
        let networks: Vec<String> = listed
            .private_networks()
            .await
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(networks.contains(&"10.0.0.0/8".to_owned()), "{networks:?}");
        assert!(
            networks.contains(&"127.0.0.1/32".to_owned()),
            "{networks:?}"
        );
        assert!(
            networks.contains(&"192.168.1.5/32".to_owned()),
            "{networks:?}"
        );
        assert!(
            !networks
                .iter()
                .any(|network| network.starts_with("1.1.1.1")),
            "{networks:?}"
        );
    }
}
