//! The machines that larder boots and provisions: what is told of them, and the one order that may be
//! given. The parts that know them are behind [`Machines`]; whoever wires the program implements it.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use serde_json::{Value, json};

use crate::routes::{self, Answer, Query};

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The order makes no sense.
    Senseless(String),
    /// There is no such machine.
    Unknown(String),
    /// It could not be written down; nothing is changed.
    Failed(String),
}

/// How often each kind of something happened.
pub type Counts = Vec<(String, u64)>;

/// What knows the machines. Every call may wait for a disk.
pub trait Machines: fmt::Debug + Send + Sync {
    /// All machines with their ways so far; `None` where none are booted or provisioned.
    fn list(&self) -> Option<Value>;
    /// An Ansible inventory of them; `None` where none are provisioned.
    fn inventory(&self) -> Option<String>;
    /// Lets a machine install again at its next boot; the answer is its address in its usual form.
    ///
    /// # Errors
    /// A [`Refusal`]: nothing is changed then.
    fn reinstall(&self, mac: &str) -> Result<String, Refusal>;
    /// DHCP replies by kind and TFTP transfers by result; `None` where none are booted.
    fn counts(&self) -> Option<[Counts; 2]>;
}

/// `GET /api/v1/machines`, in two formats, and `POST` with an order.
pub(crate) async fn answer(
    machines: Option<&Arc<dyn Machines>>,
    query: &Query,
    order: Option<Value>,
) -> Answer {
    let nobody = || routes::refused(StatusCode::NOT_FOUND, "no machines are booted here");
    let Some(machines) = machines.map(Arc::clone) else {
        return nobody();
    };
    let wants_inventory = match query.get("format") {
        None | Some("json") => false,
        Some("ansible") => true,
        Some(_) => return routes::refused(StatusCode::BAD_REQUEST, "format is json or ansible"),
    };
    let answered = tokio::task::spawn_blocking(move || match order {
        Some(order) => Some(reinstall(machines.as_ref(), &order)),
        None if wants_inventory => machines.inventory().map(routes::json_text),
        None => machines.list().map(|list| routes::one(&list)),
    });
    answered.await.ok().flatten().unwrap_or_else(nobody)
}

fn reinstall(machines: &dyn Machines, order: &Value) -> Answer {
    let Some(mac) = order["reinstall"].as_str() else {
        let why = "the order is {\"reinstall\": ADDRESS}";
        return routes::refused(StatusCode::BAD_REQUEST, why);
    };
    match machines.reinstall(mac) {
        Ok(mac) => routes::one(&json!({"mac": mac, "state": "new"})),
        Err(Refusal::Senseless(why)) => routes::refused(StatusCode::BAD_REQUEST, &why),
        Err(Refusal::Unknown(why)) => routes::refused(StatusCode::NOT_FOUND, &why),
        Err(Refusal::Failed(why)) => routes::refused(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}

/// What the parts that boot machines count themselves.
#[derive(Debug)]
pub(crate) struct OfMachines(pub(crate) Arc<dyn Machines>);

impl Collector for OfMachines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some([replies, transfers]) = self.0.counts() else {
            return Ok(());
        };
        for (name, help, label, counts) in [
            (
                "dhcp_replies",
                "Answers to machines that boot",
                "kind",
                replies,
            ),
            (
                "tftp_transfers",
                "Transfers that have ended",
                "result",
                transfers,
            ),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, count) in counts {
                let label = [(label, value.as_str())];
                ConstCounter::new(count).encode(family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[derive(Debug)]
    struct One;

    impl Machines for One {
        fn list(&self) -> Option<Value> {
            Some(json!([{"mac": "52:54:00:00:00:01"}]))
        }

        fn inventory(&self) -> Option<String> {
            None
        }

        fn reinstall(&self, mac: &str) -> Result<String, Refusal> {
            match mac {
                "52-54-00-00-00-01" => Ok("52:54:00:00:00:01".to_owned()),
                _ => Err(Refusal::Unknown("never seen".to_owned())),
            }
        }

        fn counts(&self) -> Option<[Counts; 2]> {
            let replies = vec![("offer".to_owned(), 3)];
            Some([replies, vec![("complete".to_owned(), 2)]])
        }
    }

    async fn asked(order: Option<Value>, format: &str) -> (u16, Value) {
        let machines: Arc<dyn Machines> = Arc::new(One);
        let query = Query::of_pairs(&[("format", format)]);
        let answer = answer(Some(&machines), &query, order).await;
        let status = answer.status().as_u16();
        let Ok(body) = answer.into_body().collect().await;
        (status, serde_json::from_slice(&body.to_bytes()).unwrap())
    }

    #[tokio::test]
    async fn machines_are_listed_and_told_to_install_again() {
        let (status, list) = asked(None, "json").await;
        assert_eq!(
            (status, list[0]["mac"].as_str()),
            (200, Some("52:54:00:00:00:01"))
        );
        assert_eq!(asked(None, "ansible").await.0, 404);
        assert_eq!(asked(None, "xml").await.0, 400);
        let order = |mac: &str| Some(json!({ "reinstall": mac }));
        let (status, told) = asked(order("52-54-00-00-00-01"), "json").await;
        assert_eq!((status, told["state"].as_str()), (200, Some("new")));
        let (status, told) = asked(order("x"), "json").await;
        assert_eq!((status, told["error"].as_str()), (404, Some("never seen")));
        let senseless = Some(json!({"install": 1}));
        assert_eq!(asked(senseless, "json").await.0, 400);
    }

    #[test]
    fn replies_and_transfers_are_counted_by_kind() {
        let mut registry = prometheus_client::registry::Registry::with_prefix("larder");
        registry.register_collector(Box::new(OfMachines(Arc::new(One))));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "larder_dhcp_replies_total{kind=\"offer\"} 3\n",
            "larder_tftp_transfers_total{result=\"complete\"} 2\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
