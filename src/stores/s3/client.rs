//! The SDK's client: transport, trust, region and keys.

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials as SdkCredentials, IdentityCache, ProvideCredentials, Region,
    RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider, SharedHttpClient,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use tokio::sync::OnceCell;

use crate::model::{Error, ErrorKind, Result};

use super::guard::{Guard, StoreTime};
use super::options::{AccessKeys, Credentials, FetchKeys, S3Options};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is not used again after this: many servers and balancers drop them
/// after 20 to 60 s without saying so.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long AWS's default chain may take for keys: a profile's program, a token service. Shorter than an
/// answer may take, so that the message is about keys. (The SDK's own limit is that of one request.)
const CHAIN_TIMEOUT: Duration = Duration::from_secs(50);
/// Longest file of certificates.
const CA_MAX_BYTES: u64 = 4 << 20;

/// The region where nobody names one. A bucket elsewhere tells its own.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

/// What makes connections: made once, since it holds the pool.
pub(super) fn transport(options: &S3Options) -> Result<SharedHttpClient> {
    let mut trust = TrustStore::default();
    if let Some(path) = &options.ca_file {
        trust = trust.with_pem_certificate(certificates(path)?);
    }
    let what = "set up secure connections";
    let tls = TlsContext::builder().with_trust_store(trust).build();
    let tls = tls.map_err(|error| Error::internal(what, error.to_string()))?;
    let is_local = options.endpoint.as_deref().is_some_and(is_this_machine);
    Ok(HttpBuilder::new().pool_idle_timeout(IDLE_TIMEOUT).build_with_connector_fn(move |settings, parts| {
        // What is on this machine is never behind a proxy.
        let proxy = if is_local { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
        let mut builder = Connector::builder().proxy_config(proxy).pool_idle_timeout(IDLE_TIMEOUT);
        builder.set_connector_settings(settings.cloned());
        if let Some(parts) = parts {
            builder.set_sleep_impl(parts.sleep_impl());
        }
        builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls.clone()).build()
    }))
}

/// Reads the file and makes sure that the TLS library can use every certificate in it: it
/// would give up the whole program later.
fn certificates(path: &std::path::Path) -> Result<Vec<u8>> {
    let (what, on) = ("read the certificates", path.display().to_string());
    let bad = |why: &str| {
        Error::new(ErrorKind::Config, what, why)
            .on(on.clone())
            .hint("ca_file holds one or more certificates in PEM form: -----BEGIN CERTIFICATE-----")
    };
    let failed = |error| Error::io(what, on.clone(), error).with_kind(ErrorKind::Config);
    if std::fs::metadata(path).map_err(failed)?.len() > CA_MAX_BYTES {
        return Err(bad("the file is too large for certificates"));
    }
    let pem = std::fs::read(path).map_err(failed)?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| bad("it is not in PEM form"))?;
        roots.add(certificate).map_err(|_| bad("one of its certificates cannot be read"))?;
    }
    if roots.is_empty() {
        return Err(bad("it holds no certificate"));
    }
    Ok(pem)
}

/// Whether an endpoint's host is the machine itself.
fn is_this_machine(endpoint: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What a client is made with, beside what the options say.
pub(super) struct Parts<'p> {
    pub transport: &'p SharedHttpClient,
    /// Where answers leave the time.
    pub time: &'p Arc<StoreTime>,
    /// Overrides the options': where the bucket said it is.
    pub region: Option<&'p str>,
}

/// A client, its region, and keys that are yet to be fetched by us.
pub(super) async fn connect(options: &S3Options, parts: Parts<'_>) -> (Client, String, Option<Keys>) {
    let Parts { transport, time, region } = parts;
    let keys = match &options.credentials {
        Credentials::Given(fetch) => Some(Keys::new(fetch.clone())),
        Credentials::Chain | Credentials::Profile(_) => None,
    };
    let (credentials, found) = match &options.credentials {
        Credentials::Given(_) => (keys.clone().map(SharedCredentialsProvider::new), None),
        Credentials::Chain => chain(options, transport, None).await,
        Credentials::Profile(name) => chain(options, transport, Some(name)).await,
    };
    let region = region
        .map(str::to_owned)
        .or_else(|| options.region.clone())
        .or(found)
        .or_else(|| ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| variable(name)))
        .unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let mut config = Builder::new()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region.clone()))
        .http_client(transport.clone())
        // Retrying is a wrapper's business, and must not multiply.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .identity_cache(IdentityCache::lazy().load_timeout(CHAIN_TIMEOUT).build())
        // Checksums are asked for one by one: not every server knows them.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(options.path_style.unwrap_or(options.endpoint.is_some()))
        .interceptor(Guard(time.clone()));
    config.set_credentials_provider(credentials);
    config.set_endpoint_url(options.endpoint.clone());
    (Client::from_conf(config.build()), region, keys)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The default chain's keys, and the region that it finds where none is needed else.
async fn chain(
    options: &S3Options,
    transport: &SharedHttpClient,
    profile: Option<&str>,
) -> (Option<SharedCredentialsProvider>, Option<String>) {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(transport.clone());
    if let Some(name) = profile {
        loader = loader.profile_name(name);
    }
    // Without this, a host that is no cloud instance waits for the metadata service in vain.
    let region =
        options.region.clone().or_else(|| options.endpoint.as_ref().map(|_| DEFAULT_REGION.to_owned()));
    if let Some(region) = region {
        let named = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| variable(name));
        let region = options.region.clone().or(named).unwrap_or(region);
        loader = loader.region(Region::new(region));
    }
    let config: SdkConfig = loader.load().await;
    (config.credentials_provider(), config.region().map(|region| region.as_ref().to_owned()))
}

/// Keys that are fetched by us, once for each client.
#[derive(Clone)]
pub(super) struct Keys {
    fetch: FetchKeys,
    fetched: Arc<OnceCell<SdkCredentials>>,
}

impl Keys {
    fn new(fetch: FetchKeys) -> Self {
        Self { fetch, fetched: Arc::default() }
    }

    /// Waits until they are there, as long as the programs that are asked for them may take. Whoever asks
    /// before a request does not let it run into the limit of an answer.
    pub async fn fetched(&self) -> Result<&SdkCredentials> {
        let fetch = || async {
            let fetch = self.fetch.clone();
            // It may run a program and wait for it.
            let fetched = tokio::task::spawn_blocking(move || fetch()).await;
            let keys = fetched.map_err(|error| Error::internal("get the keys", error.to_string()))??;
            Ok(sdk_keys(&keys))
        };
        self.fetched.get_or_try_init(fetch).await
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            self.fetched().await.cloned().map_err(CredentialsError::invalid_configuration)
        })
    }
}

fn sdk_keys(keys: &AccessKeys) -> SdkCredentials {
    let token = keys.token.as_ref().map(|token| token.expose().clone());
    SdkCredentials::new(keys.id.expose().clone(), keys.secret.expose().clone(), token, None, "muster")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_machine_is_known() {
        for here in
            ["http://localhost:9000", "https://127.0.0.1", "http://[::1]:9000/x", "http://127.9.9.9:1"]
        {
            assert!(is_this_machine(here), "{here}");
        }
        for elsewhere in ["https://s3.example.org", "http://10.0.0.1:9000", "http://localhost.example.org"] {
            assert!(!is_this_machine(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn certificates_that_cannot_be_used_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let refused = |content: &str| {
            std::fs::write(&path, content).unwrap();
            let error = certificates(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{content:?}");
            assert!(error.remedy().is_some());
        };
        refused("");
        refused("not a certificate");
        refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        refused("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
        assert_eq!(certificates(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::Config);
    }
}
