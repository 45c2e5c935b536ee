//! What is counted, for Prometheus.
//!
//! Requests are counted as they end (this is a [`Recorder`]); what the store counts itself is read
//! from it when somebody asks. Labels have few values: listeners and mirrors are named by the
//! operator, methods beyond the usual are `other`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use larder_proxy::record::{Hierarchy, Outcome, Record, Recorder};
use larder_store::{Fault, Snapshot, Store};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::machines::{Machines, OfMachines};

/// Bounds of the buckets of durations: from a hit in memory to an image over a slow line.
const SECONDS: [f64; 13] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    listener: String,
    method: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    listener: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mirror {
    mirror: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rule {
    /// Its place among the rules, from 1.
    rule: u64,
}

/// The registry and what is counted in it.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Asked, Counter>,
    response_bytes: Family<Sent, Counter>,
    origin_bytes: Family<Mirror, Counter>,
    rule_hits: Family<Rule, Counter>,
    stale_served: Counter,
    tunnels: Counter,
    duration: Histogram,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Metrics of a store and of the requests that are recorded from now on.
    pub fn new(version: &'static str, store: Store) -> Self {
        let mut registry = Registry::with_prefix("larder");
        let metrics = Self {
            requests: Family::default(),
            response_bytes: Family::default(),
            origin_bytes: Family::default(),
            rule_hits: Family::default(),
            stale_served: Counter::default(),
            tunnels: Counter::default(),
            duration: Histogram::new(SECONDS),
            registry: Mutex::default(),
        };
        let build = Info::new([("version", version)]);
        registry.register("build", "The program", build);
        registry.register(
            "requests",
            "Requests that have ended",
            metrics.requests.clone(),
        );
        registry.register(
            "response_bytes",
            "Bytes sent to clients, heads included",
            metrics.response_bytes.clone(),
        );
        registry.register(
            "origin_bytes",
            "Bytes of bodies that were asked of origins for clients",
            metrics.origin_bytes.clone(),
        );
        registry.register(
            "storeid_rule_hits",
            "Requests named by each rule",
            metrics.rule_hits.clone(),
        );
        registry.register(
            "stale_served",
            "Stale answers where no origin had one",
            metrics.stale_served.clone(),
        );
        registry.register(
            "tunnels",
            "Tunnels that have ended",
            metrics.tunnels.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From a request's head to its answer's end; tunnels are left out",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register_collector(Box::new(OfStore(store)));
        Self {
            registry: Mutex::new(registry),
            ..metrics
        }
    }

    /// Counts what the parts that boot machines count, too.
    pub fn machines(&self, machines: Arc<dyn Machines>) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(OfMachines(machines)));
    }

    /// All of it as OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }
}

/// The mirror that a request went to; what no mirror was configured for is `direct`.
fn mirror(record: &Record) -> Option<Mirror> {
    let name = match (&record.mirror, &record.hierarchy) {
        (Some(mirror), _) => mirror.clone(),
        (None, Hierarchy::None) => return None,
        (None, Hierarchy::Direct(_)) => "direct".to_owned(),
        (None, Hierarchy::FirstUpParent(_)) => "parent".to_owned(),
    };
    Some(Mirror { mirror: name })
}

/// The methods that clients of mirrors use; what a client makes up does not become a label.
fn method(method: &str) -> &'static str {
    const USUAL: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT"];
    let usual = USUAL.into_iter().find(|usual| *usual == method);
    usual.unwrap_or("other")
}

fn result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Hit => "hit",
        Outcome::MemHit => "memory-hit",
        Outcome::Miss => "miss",
        Outcome::CollapsedMiss => "collapsed-miss",
        Outcome::RefreshUnmodified => "refresh-unmodified",
        Outcome::RefreshModified => "refresh-modified",
        Outcome::RefreshFailOld => "refresh-fail-old",
        Outcome::RefreshFailErr => "refresh-fail-error",
        Outcome::ImsHit => "ims-hit",
        Outcome::InmHit => "inm-hit",
        Outcome::OfflineHit => "offline-hit",
        Outcome::Denied => "denied",
        Outcome::Tunnel => "tunnel",
        Outcome::None => "none",
    }
}

/// What the store counts itself.
#[derive(Debug)]
struct OfStore(Store);

impl Collector for OfStore {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.0.snapshot();
        for (name, help, value) in gauges(&snapshot) {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let kind = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        for (name, help, value) in counters(&snapshot) {
            let counter = ConstCounter::new(value);
            let kind = counter.metric_type();
            counter.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        let help = "Faults of the disk and of what lies on it";
        let mut faults =
            encoder.encode_descriptor("cache_faults", help, None, MetricType::Counter)?;
        for fault in Fault::ALL {
            let label = [("kind", fault.as_str())];
            let counter = ConstCounter::new(snapshot.faults_of(fault));
            counter.encode(faults.encode_family(&label)?)?;
        }
        Ok(())
    }
}

type Said = (&'static str, &'static str, u64);

fn gauges(of: &Snapshot) -> [Said; 6] {
    [
        ("cache_objects", "Keys that name a body", of.objects),
        ("cache_bodies", "Bodies", of.bodies),
        (
            "cache_bytes",
            "Bytes that the cache occupies",
            of.used_bytes,
        ),
        ("cache_max_bytes", "Bytes that it may occupy", of.max_bytes),
        (
            "cache_memory_bytes",
            "Heads and small bodies in memory",
            of.hot_bytes,
        ),
        (
            "fills_active",
            "Objects that are being fetched",
            of.fills_active,
        ),
    ]
}

fn counters(of: &Snapshot) -> [Said; 8] {
    let mismatches = of.faults_of(Fault::Flipped);
    [
        ("evictions", "Bodies that had to leave", of.evictions),
        ("evicted_bytes", "Their bytes", of.evicted_bytes),
        ("fills", "Answers whose storing was begun", of.fills),
        (
            "fills_failed",
            "Of them, those that failed",
            of.fills_failed,
        ),
        (
            "followers",
            "Requests that followed another's fetch",
            of.followers,
        ),
        (
            "deduplicated_bytes",
            "Bytes that were here already",
            of.deduplicated_bytes,
        ),
        ("digest_mismatch", "Bodies without their digest", mismatches),
        (
            "scrubbed_bodies",
            "Bodies hashed in the background",
            of.scrubbed,
        ),
    ]
}

impl Recorder for Metrics {
    fn record(&self, record: &Record) {
        let result = result(record.outcome);
        let listener = record.listener.clone();
        let method = method(&record.method);
        self.requests
            .get_or_create(&Asked {
                listener: listener.clone(),
                method,
                result,
            })
            .inc();
        self.response_bytes
            .get_or_create(&Sent { listener, result })
            .inc_by(record.sent_bytes);
        if let Some(mirror) = mirror(record) {
            self.origin_bytes
                .get_or_create(&mirror)
                .inc_by(record.body_bytes);
        }
        if let Some(rule) = record.store_id_rule {
            self.rule_hits
                .get_or_create(&Rule {
                    rule: rule as u64 + 1,
                })
                .inc();
        }
        match record.outcome {
            Outcome::RefreshFailOld => drop(self.stale_served.inc()),
            Outcome::Tunnel => drop(self.tunnels.inc()),
            _ => {}
        }
        if record.outcome != Outcome::Tunnel {
            self.duration.observe(record.elapsed.as_secs_f64());
        }
    }
}
