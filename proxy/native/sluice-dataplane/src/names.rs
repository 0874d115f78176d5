//! From an upstream's host name to its addresses.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverOpts;
use hickory_resolver::config::{
    LookupIpStrategy, ResolveHosts, ResolverConfig, ServerOrderingStrategy,
};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// A name that is not known is asked for again after this: a Service may be on its way.
const UNKNOWN_MAX: Duration = Duration::from_secs(1);
/// An address may have moved after this, whatever its record says.
const KNOWN_MAX: Duration = Duration::from_secs(30);

/// Who knows addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Whoever the system asks, the hosts file first.
    System,
    /// DNS alone, as this resolv.conf says.
    Dns(PathBuf),
}

/// See the module.
pub struct Names {
    source: Source,
    dns: RefCell<Option<Dns>>,
}

/// A resolver, and the state of the file that it was made of.
#[derive(Clone)]
struct Dns {
    modified: Option<SystemTime>,
    resolver: Rc<TokioResolver>,
}

impl Names {
    /// Nothing is read or asked yet.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            dns: RefCell::default(),
        }
    }

    /// Whether the hosts file has no say.
    pub fn asks_dns(&self) -> bool {
        self.source != Source::System
    }

    /// The addresses of a host, IPv4 first where DNS is asked; an address is its own.
    ///
    /// # Errors
    ///
    /// There is none, or nobody can be asked. `NotFound` says that the name is not known.
    pub async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let Source::Dns(path) = &self.source else {
            let found = tokio::net::lookup_host((host, port)).await;
            return match found.map(Iterator::collect::<Vec<_>>) {
                Ok(found) if !found.is_empty() => Ok(found),
                _ => Err(unknown()),
            };
        };
        let resolver = self.resolver(path)?;
        let found = match resolver.lookup_ip(host).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Err(unknown()),
            Err(_) => {
                return Err(io::Error::other("Temporary failure in name resolution"));
            }
        };
        let mut found: Vec<SocketAddr> = found
            .into_iter()
            .map(|address| SocketAddr::new(address, port))
            .collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        if found.is_empty() {
            return Err(unknown());
        }
        Ok(found)
    }

    /// No address of a name could be reached: ask anew next time.
    pub fn forget(&self) {
        if let Some(dns) = &*self.dns.borrow() {
            dns.resolver.clear_cache();
        }
    }

    /// The resolver of the file as it is now.
    fn resolver(&self, path: &PathBuf) -> io::Result<Rc<TokioResolver>> {
        let modified = std::fs::metadata(path)
            .and_then(|found| found.modified())
            .ok();
        if let Some(dns) = &*self.dns.borrow()
            && dns.modified == modified
        {
            return Ok(Rc::clone(&dns.resolver));
        }
        let read = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("{} cannot be used: {error}", path.display()))
        };
        let text = std::fs::read(path).map_err(|error| read(&error))?;
        let (config, options) = parse_resolv_conf(text).map_err(|error| read(&error))?;
        let resolver = Rc::new(build(config, options));
        *self.dns.borrow_mut() = Some(Dns {
            modified,
            resolver: Rc::clone(&resolver),
        });
        Ok(resolver)
    }
}

fn build(config: ResolverConfig, mut options: ResolverOpts) -> TokioResolver {
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.positive_max_ttl = Some(KNOWN_MAX);
    options.negative_max_ttl = Some(UNKNOWN_MAX);
    let mut builder =
        TokioResolver::builder_with_config(config, TokioConnectionProvider::default());
    *builder.options_mut() = options;
    builder.build()
}

fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "Name or service not known")
}
