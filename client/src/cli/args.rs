//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  something failed on this machine
   2  wrong usage, or an argument that has no meaning
   3  not logged in, or login refused: postern login
   4  wrong password, or the profile is damaged
   5  network or server unavailable: repeat the command, nothing is done twice
   6  the server refused, or a verdict cannot be turned round any more
   7  no token left for this recipient, or no free reply for now: postern tokens
   8  the request would not be anonymous or protected: postern settings
   9  no profile, or registration not finished (or finished already)
  10  another postern command is using the profile
  11  no such message, contact or session, or more than one
  12  a server does not follow the protocol or is somebody else, or a pinned key has changed
  13  the recipient's card cannot be trusted
  14  doctor found something that does not work

Files: profiles lie below --data-dir (else the XDG data directory, ~/.local/share/postern) as profiles/NAME.db.
The password is taken from --password-file, else from POSTERN_PASSWORD, else asked for.";

/// Write to strangers once, anonymously, at the price of a token that only they can give back.
#[derive(Parser, Debug)]
#[command(name = "postern", version, after_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options of every command.
#[derive(Args, Debug)]
pub(super) struct Global {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Which profile.
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub(super) profile: String,
    /// Where profiles lie.
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// File with the password; its line end does not count.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Send everything through this SOCKS5 proxy (Tor), like socks5h://127.0.0.1:9050; anonymous requests on a circuit each.
    #[arg(long, global = true, value_name = "URL", conflicts_with = "direct")]
    pub(super) proxy: Option<String>,
    /// Send anonymous requests directly: the relay sees your address.
    #[arg(long, global = true)]
    pub(super) direct: bool,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Ask for a code, by text or by a call: the first step to an account.
    Register(Register),
    /// Make the account with the code (without one: go on where it was cut short).
    Verify {
        /// The digits of the text.
        code: Option<String>,
    },
    /// Log in again, after the session has ended.
    Login,
    /// Show your contact card, as text and QR code: who has it can write to you.
    Card,
    /// Write to somebody: free to who wrote back before, else for a token.
    Send {
        /// A card link (postern:v1?…), a number (who is no contact yet is looked up), or the first letters of a contact's id.
        to: String,
        /// The text; without it, standard input.
        text: Option<String>,
        /// Spend a token if the free replies to them are used for now.
        #[arg(long)]
        spend_token: bool,
    },
    /// Fetch and list messages.
    Inbox {
        /// List junk instead, with the reasons.
        #[arg(long)]
        junk: bool,
        /// If nothing new is there, wait for it so long.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        wait: u64,
    },
    /// Show a message.
    Read {
        /// First letters of its id.
        id: String,
    },
    /// Take the sender up as a contact: they can write for free from then on, and the token goes back at a random time.
    Accept {
        /// First letters of the message's id.
        id: String,
    },
    /// Do not take the sender up; the token goes back all the same.
    Decline {
        /// First letters of the message's id.
        id: String,
    },
    /// Report as spam: the token is lost to its sender.
    Spam {
        /// First letters of the message's id.
        id: String,
    },
    /// Let nothing of a contact through any more. They are not told, and the relay's answers to them stay the same.
    Block {
        /// A contact: number or first letters of its id.
        contact: String,
        /// Give the relay the contact's seed, so that it holds for as long as you are away. It can then tell which replies of this
        /// period came from them.
        #[arg(long)]
        reveal: bool,
    },
    /// Let a contact through again.
    Unblock {
        /// A contact: number or first letters of its id.
        contact: String,
    },
    /// Whose message it is: traces what came by a reply credential, also if it could not be opened.
    Who {
        /// First letters of the message's id.
        id: String,
    },
    /// Replace the key that contacts' replies are checked with: if the relay may have lost it.
    RotateReplyKey {
        /// Stop taking replies under the old one now: contacts need a message of yours, or a token, before they can write again.
        #[arg(long)]
        at_once: bool,
    },
    /// The signature screen: tokens left, out, answered.
    Tokens,
    /// List contacts and requests, or find out who of an address book can be written to.
    Contacts {
        #[command(subcommand)]
        action: Option<ContactsAction>,
    },
    /// Look numbers up: the servers learn neither which, nor who asks, nor whether anybody was found. A number costs a look-up token, of which there are so many a day.
    Find {
        /// Numbers, like +41791234567.
        #[arg(required = true)]
        numbers: Vec<String>,
    },
    /// List sessions, or end one.
    Sessions {
        #[command(subcommand)]
        action: Option<SessionAction>,
    },
    /// Do what is due: send, tell verdicts, ask for tokens, fetch, rotate keys.
    Sync {
        /// Go on until stopped; with --json, one document per round.
        #[arg(long)]
        watch: bool,
    },
    /// Show or change settings; --proxy and --direct are kept.
    Settings(SettingsArgs),
    /// Check everything and say what to do.
    Doctor,
    /// Show the whole of Postern on this machine: two servers, three people, every table.
    Demo(crate::demo::Args),
}

/// `postern register`.
#[derive(Args, Debug)]
pub(super) struct Register {
    /// Your number, like +41791234567.
    pub(super) phone: String,
    /// The issuer, like https://issuer.example, or https://FINGERPRINT@issuer.example: then its key must be that one.
    #[arg(long, value_name = "URL")]
    pub(super) issuer: String,
    /// The issuer's public key, if you know it: anything else is refused.
    // One key in 64 begins with a hyphen.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub(super) issuer_key: Option<String>,
    /// Have the code said in a call, if texts do not arrive and the issuer's gateway places calls.
    #[arg(long)]
    pub(super) voice: bool,
    /// Make guessing the password cheap. For tests only.
    #[arg(long, hide = true)]
    pub(super) cheap_kdf: bool,
}

/// `postern contacts …`.
#[derive(Subcommand, Debug)]
pub(super) enum ContactsAction {
    /// Look up every number of an address book (.vcf or .csv).
    Import {
        /// The file.
        file: PathBuf,
        /// Where numbers without a country code are at home, like CH.
        #[arg(long, value_name = "CC")]
        country: Option<String>,
    },
}

/// `postern sessions …`.
#[derive(Subcommand, Debug)]
pub(super) enum SessionAction {
    /// End a session.
    Revoke {
        /// First letters of its id.
        id: String,
    },
}

/// `postern settings`.
#[derive(Args, Debug)]
pub(super) struct SettingsArgs {
    /// Forget --proxy and --direct: anonymous requests go to this machine only.
    #[arg(long, conflicts_with_all = ["proxy", "direct"])]
    pub(super) no_route: bool,
    /// Tell verdicts at a random time within so long; 0 is at once.
    #[arg(long, value_name = "SECONDS")]
    pub(super) release_delay: Option<u64>,
    /// Ask for tokens about so often; 0 is at every sync.
    #[arg(long, value_name = "SECONDS")]
    pub(super) exchange_interval: Option<u64>,
    /// What the next session is called in the list.
    #[arg(long, value_name = "TEXT")]
    pub(super) session_label: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
