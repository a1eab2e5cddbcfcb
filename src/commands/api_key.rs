//! `picket api-key`: a new key for the management API, shown once, and what the configuration holds of it.

use picket_coordinator::api_keys;
use picket_coordinator::config::Scope;

use crate::cli::ApiKeyArgs;
use crate::terminal;

pub fn run(args: &ApiKeyArgs) -> anyhow::Result<()> {
    let key = api_keys::generate();
    let scopes = args.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
    let (name, hash) = (&args.name, api_keys::hash(&key));
    Ok(terminal::say(&format!(
        "# Shown once. Send it as `Authorization: Bearer KEY`:\n# {}\ncoordinator:\n  apiKeys:\n    - name: {name}\n      keyHash: {hash}\n      scopes: [{scopes}]\n",
        key.expose()
    ))?)
}

pub fn name(text: &str) -> Result<String, api_keys::ApiKeyError> {
    api_keys::check_name(text).map(|()| text.to_owned())
}

pub fn scope(text: &str) -> Result<Scope, String> {
    let names = || Scope::ALL.map(Scope::as_str).join(", ");
    Scope::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| format!("known are {}", names()))
}
