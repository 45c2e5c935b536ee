//! The machines as an Ansible inventory: what the data directory selects by hardware address, and
//! what has been seen booting.
//!
//! The text is JSON, which Ansible reads as a YAML inventory. A host is named by its group's id if
//! that group is for one machine, else by its address; profiles and states become groups. Machines that
//! no group names are hosts of the group [`UNNAMED`] too: whoever reaches the server may have made them up.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    mac::Mac,
    machines::{Machine, State},
    model::Group,
    select::Catalog,
};

/// The Ansible group of machines that no group of the data directory names.
const UNNAMED: &str = "larder_unnamed";

/// Takes the machines that no group names out of an inventory of [`ansible`]; how many they were.
pub fn named_only(inventory: &mut Value) -> usize {
    let hosts = inventory.pointer_mut(&format!("/all/children/{UNNAMED}/hosts"));
    let Some(Value::Object(unnamed)) = hosts.map(Value::take) else {
        return 0;
    };
    let remove = |hosts: &mut Value| {
        if let Some(hosts) = hosts.as_object_mut() {
            hosts.retain(|name, _| !unnamed.contains_key(name));
        }
        hosts.as_object().is_some_and(|hosts| !hosts.is_empty())
    };
    if let Some(hosts) = inventory.pointer_mut("/all/hosts") {
        remove(hosts);
    }
    if let Some(Value::Object(children)) = inventory.pointer_mut("/all/children") {
        children.retain(|_, child| child.get_mut("hosts").is_some_and(remove));
    }
    unnamed.len()
}

/// Renders the inventory.
pub fn ansible(catalog: &Catalog, machines: &BTreeMap<Mac, Machine>) -> String {
    let mut hosts = Map::new();
    let mut children: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let nobody = Machine::default();
    let chosen: BTreeMap<Mac, &Group> = catalog
        .groups()
        .iter()
        .filter_map(|group| Some((group.machine()?, group.as_ref())))
        .collect();
    let unknown = machines
        .keys()
        .filter(|mac| !chosen.contains_key(mac))
        .map(|mac| (mac, None));
    for (mac, group) in chosen
        .iter()
        .map(|(mac, group)| (mac, Some(*group)))
        .chain(unknown)
    {
        let machine = machines.get(mac).unwrap_or(&nobody);
        let name = group.map_or_else(|| mac.hyphenated(), |group| group.id.clone());
        let profile = group.map_or(machine.profile.as_str(), |group| group.profile.as_str());
        let mut groups = vec![format!("state_{}", machine.state.as_str())];
        if group.is_none() {
            groups.push(UNNAMED.to_owned());
        }
        if !profile.is_empty() {
            groups.push(format!("profile_{}", identifier(profile)));
        }
        for group in groups {
            children
                .entry(group)
                .or_default()
                .insert(name.clone(), json!({}));
        }
        hosts.insert(name, variables(mac, machine, group));
    }
    let children: Map<String, Value> = children
        .into_iter()
        .map(|(name, hosts)| (name, json!({ "hosts": hosts })))
        .collect();
    let inventory = json!({ "all": { "hosts": hosts, "children": children } });
    let mut text =
        serde_json::to_string_pretty(&inventory).expect("maps with string keys always serialise");
    text.push('\n');
    text
}

fn variables(mac: &Mac, machine: &Machine, group: Option<&Group>) -> Value {
    let mut variables = Map::new();
    variables.insert("larder_mac".into(), json!(mac.to_string()));
    variables.insert("larder_state".into(), json!(machine.state.as_str()));
    if let Some(address) = machine.address {
        variables.insert("ansible_host".into(), json!(address.to_string()));
    }
    if machine.state == State::Installed {
        variables.insert("larder_installed_at".into(), json!(machine.since));
    }
    if let Some(metadata) = group.and_then(|group| group.metadata.as_ref()) {
        variables.insert("larder_metadata".into(), Value::Object(metadata.clone()));
    }
    Value::Object(variables)
}

/// A name that Ansible takes for a group.
fn identifier(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn machines_of_the_directory_and_machines_seen_are_hosts() {
        let group: Group = serde_json::from_str(
            r#"{"id":"node1","profile":"c9-text","selector":{"mac":"52:54:00:00:00:01"},
                "metadata":{"role":"web"}}"#,
        )
        .unwrap();
        let catalog = Catalog::new(vec![Arc::new(group)]);
        let machine = |state| Machine {
            state,
            address: "10.0.0.5".parse().ok(),
            ..Machine::default()
        };
        let machines = BTreeMap::from([
            (
                Mac::parse("52:54:00:00:00:01").unwrap(),
                machine(State::Installed),
            ),
            (
                Mac::parse("52:54:00:00:00:02").unwrap(),
                machine(State::New),
            ),
        ]);
        let inventory: Value = serde_json::from_str(&ansible(&catalog, &machines)).unwrap();
        let host = &inventory["all"]["hosts"]["node1"];
        assert_eq!(host["ansible_host"], "10.0.0.5");
        assert_eq!(host["larder_metadata"]["role"], "web");
        let children = &inventory["all"]["children"];
        assert!(children["profile_c9_text"]["hosts"]["node1"].is_object());
        assert!(children["state_new"]["hosts"]["52-54-00-00-00-02"].is_object());
        let mut named = inventory.clone();
        assert_eq!(named_only(&mut named), 1);
        assert_eq!(named["all"]["hosts"].as_object().unwrap().len(), 1);
        assert_eq!(named["all"]["hosts"]["node1"], *host);
        let children = named["all"]["children"].as_object().unwrap();
        let names: Vec<&String> = children.keys().collect();
        assert_eq!(names, ["profile_c9_text", "state_installed"]);
        assert_eq!(named_only(&mut named.clone()), 0);
    }
}
