//! `postern-issuer test-text`: an operator tries the gateways out.

use clap::Args;
use postern_protocol::ids::PhoneNumber;
use postern_protocol::texts::Channel;

use super::{CliError, OfConfig, open, say};
use crate::service::{phone, texts};

#[derive(Args)]
pub(super) struct TestText {
    #[command(flatten)]
    of: OfConfig,
    /// Whose phone, as in `+41791234567`.
    #[arg(long)]
    to: PhoneNumber,
    /// By this gateway alone; without it, by each that serves the number's country.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// By a call.
    #[arg(long)]
    voice: bool,
}

/// Prints a line of JSON for each gateway. Fails unless each took it. Nothing is counted, and no breaker stands in the way.
pub(super) async fn test(args: &TestText) -> Result<(), CliError> {
    let issuer = open(&args.of).await?;
    let country = phone::check(&args.to, &issuer.config.limits)?;
    let channel = if args.voice { Channel::Voice } else { Channel::Text };
    let results = texts::try_out(&issuer, &args.to, country, channel, args.gateway.as_deref()).await;
    issuer.close().await;
    let mut all_took_it = !results.is_empty();
    for (gateway, result) in results {
        all_took_it &= result.is_ok();
        let error = result.err().map(|error| error.to_string());
        let line = serde_json::json!({ "gateway": gateway, "accepted": error.is_none(), "error": error });
        say(&line.to_string())?;
    }
    if all_took_it { Ok(()) } else { Err(CliError::NoText) }
}
