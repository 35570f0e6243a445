//! What is said to be overwritten when it is dropped is: each secret type is made with a marker in a process of its own, dropped, and the
//! memory of that process is searched.

use std::any::Any;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;
use std::process::Command;

use postern_client::secret::{SecretBytes, SecretText};
use postern_credentials::blind_token::{IssuerKey, PendingToken};
use postern_credentials::envelope::SealingKey;
use postern_credentials::identity::IdentityKey;
use postern_credentials::login_chain::ClientLogin;
use postern_credentials::lookup_token::{PendingTokens, WindowSecret};
use postern_credentials::oprf::{Blinding, SecretKey};
use postern_credentials::phone_code::PhoneCodeKeys;
use postern_credentials::reply_credential::{GroupSecret, KeyPeriod, MemberCredential, MemberSecret};
use postern_credentials::seal::SealKey;
use postern_credentials::secrets::RootSecret;
use postern_credentials::session::SessionKey;
use postern_issuer::gateway::Password;
use postern_protocol::ids::{GroupSecretBytes, LoginVerifier, MailboxId, MemberSecretBytes, OprfOutput, RefundSecret};
use postern_tests::planted::memory::{Marker, overwrite_dead_stack};
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, Zeroizing};

/// The value, and what must be found as long as it lives.
type Made = (Box<dyn Any>, Vec<Marker>);

/// A type by its name, and how to make one.
type Probe = (&'static str, fn(Marker) -> Made);

/// One piece of the marker, of a value that is made of bytes.
fn of<T: 'static>(marker: &Marker, value: T) -> Made {
    (Box::new(value), vec![marker.clone()])
}

/// A generator that draws the marker first, and other bytes of its own after that.
struct Drawn(Marker, u8);

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("bytes are drawn")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("bytes are drawn")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.iter_mut().zip(self.0.clear().iter().cycle()).for_each(|(to, from)| *to = from.wrapping_add(self.1));
        self.1 = self.1.wrapping_add(37);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

/// As in `credentials/src/lookup_token.rs`.
const WINDOW_LABEL: &str = "lookup-window";

const PERIOD: KeyPeriod = KeyPeriod { mailbox: MailboxId([7; 32]), key_version: 1, period: 2 };

/// `y0` by docs/reply-credentials.md, masked.
fn y0(root: &Marker) -> Marker {
    let hash = Sha512::new()
        .chain_update(24_u16.to_be_bytes())
        .chain_update("PRC1-ristretto255-sha512")
        .chain_update(6_u16.to_be_bytes())
        .chain_update("key-y0")
        .chain_update(root.clear().as_slice())
        .chain_update([7; 32])
        .chain_update(1_u32.to_be_bytes())
        .chain_update(2_u32.to_be_bytes());
    let wide = Zeroizing::new(<[u8; 64]>::from(hash.finalize()));
    let scalar = Zeroizing::new(curve25519_dalek::Scalar::from_bytes_mod_order_wide(&wide));
    Marker::of(Zeroizing::new(scalar.as_bytes().to_vec()))
}

/// The private exponent's middle, as DER has it.
fn private_exponent(pkcs8: &[u8]) -> Marker {
    // It comes after the public one, 65537.
    let e = pkcs8.windows(5).position(|window| window == [2, 3, 1, 0, 1]).unwrap() + 5;
    Marker::of(Zeroizing::new(pkcs8[e + 100..e + 116].to_vec()))
}

/// The key that RFC 9497's `DeriveKeyPair` gives, masked.
fn oprf_scalar(seed: &[u8; 32], info: &[u8]) -> Marker {
    let server = voprf_ng::VoprfServer::<voprf_ng::Ristretto255>::new_from_seed(seed, info).unwrap();
    let mut pair = server.serialize();
    let marker = Marker::of(Zeroizing::new(pair[..32].to_vec()));
    pair.zeroize();
    marker
}

const PROBES: &[Probe] = &[
    ("RootSecret", |m| of(&m, RootSecret::from_bytes(*m.array()))),
    ("SessionKey", |m| of(&m, SessionKey::from_bytes(*m.array()))),
    ("SealingKey", |m| of(&m, SealingKey::from_seed(*m.array()))),
    ("SealKey", |m| of(&m, SealKey::new(*m.array()))),
    ("IdentityKey", |m| of(&m, IdentityKey::from_seed(*m.array()))),
    ("LoginVerifier", |m| of(&m, LoginVerifier::new(*m.array()))),
    ("RefundSecret", |m| of(&m, RefundSecret::new(*m.array()))),
    ("GroupSecretBytes", |m| of(&m, GroupSecretBytes::new(*m.array()))),
    ("MemberSecretBytes", |m| of(&m, MemberSecretBytes::new(*m.array()))),
    ("OprfOutput", |m| of(&m, OprfOutput::new(*m.array()))),
    ("GroupSecret", |m| of(&m, GroupSecret::from_stored(&stored(&m)).unwrap())),
    ("MemberSecret", |m| of(&m, MemberSecret::from_stored(&stored(&m)).unwrap())),
    ("MemberCredential", |m| {
        let element = curve25519_dalek::constants::RISTRETTO_BASEPOINT_COMPRESSED;
        let bytes = Zeroizing::new([stored(&m).as_slice(), element.as_bytes()].concat());
        of(&m, MemberCredential::decode(&bytes).unwrap())
    }),
    ("VerificationKey", |m| {
        let key = GroupSecret::from_stored(&stored(&m)).unwrap().verification_key(&PERIOD);
        (Box::new(key), vec![y0(&m)])
    }),
    ("Code", |m| {
        let keys = PhoneCodeKeys::derive(&RootSecret::from_bytes(*m.array()));
        let code = keys.code(b"a cookie");
        let marker = Marker::of(Zeroizing::new(code.as_str().as_bytes().to_vec()));
        (Box::new(code), vec![marker])
    }),
    ("PhoneCodeKeys", |m| {
        let root = RootSecret::from_bytes(*m.array());
        let keys = PhoneCodeKeys::derive(&root);
        let markers =
            ["phone-cookie", "phone-code"].map(|label| Marker::of(Zeroizing::new(root.derive(label).to_vec())));
        (Box::new(keys), markers.to_vec())
    }),
    ("ServerLogin", |m| {
        let root = RootSecret::from_bytes(*m.array());
        let keys = postern_credentials::login_chain::ServerLogin::derive(&root);
        let labels = ["login-nonce", "login-strangers"];
        (Box::new(keys), labels.map(|label| Marker::of(Zeroizing::new(root.derive(label).to_vec()))).to_vec())
    }),
    ("ClientLogin", |m| {
        let login = ClientLogin::begin(&mut Drawn(m.clone(), 0), "+41791234567".parse().unwrap()).1;
        (Box::new(login), vec![m.middle()])
    }),
    ("PendingToken", |m| {
        let mut bytes = Zeroizing::new(vec![0; PendingToken::STORED_LEN]);
        (bytes[0], bytes[2]) = (1, 2);
        // The nonce, and the inverse of the blinding factor.
        for at in [3, 99, 200] {
            bytes[at..at + 32].copy_from_slice(m.array::<32>().as_slice());
        }
        of(&m, PendingToken::from_bytes(&bytes).unwrap())
    }),
    ("IssuerKey", |_| {
        let key = IssuerKey::generate().unwrap();
        let marker = private_exponent(&key.to_pkcs8().unwrap());
        (Box::new(key), vec![marker.reversed()])
    }),
    ("SecretKey", |m| {
        let seed = m.array::<32>();
        (Box::new(SecretKey::derive(&seed, b"probe").unwrap()), vec![oprf_scalar(&seed, b"probe")])
    }),
    ("WindowSecret", |m| {
        let root = RootSecret::from_bytes(*m.array());
        let seed = root.derive(WINDOW_LABEL);
        (Box::new(WindowSecret::derive(&root, 7).unwrap()), vec![oprf_scalar(&seed, &7_u64.to_be_bytes())])
    }),
    ("Blinding", |m| {
        let blinding = postern_credentials::oprf::blind(&mut Drawn(m, 0), b"input").unwrap().1;
        let stored = blinding.to_bytes();
        let marker = Marker::of(Zeroizing::new(stored[..32].to_vec()));
        drop(Blinding::from_bytes(&stored).unwrap());
        (Box::new(blinding), vec![marker])
    }),
    ("PendingTokens", |m| {
        let key = SecretKey::derive(&[1; 32], b"probe").unwrap().public();
        let challenge = postern_protocol::ids::ChallengeDigest([2; 32]);
        of(&m, PendingTokens::begin(&mut Drawn(m.clone(), 0), &key, challenge, 2).unwrap())
    }),
    ("SecretBytes", |m| of(&m, SecretBytes::new(m.clear().to_vec()))),
    ("SecretText", |m| {
        let text = Zeroizing::new(m.clear().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let marker = Marker::of(Zeroizing::new(text.as_bytes().to_vec()));
        (Box::new(SecretText::new(text.as_str())), vec![marker])
    }),
    ("Password", |m| {
        let text = Zeroizing::new(m.clear().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let marker = Marker::of(Zeroizing::new(text.as_bytes().to_vec()));
        (Box::new(Password::new(text.as_str())), vec![marker])
    }),
];

fn stored(marker: &Marker) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(33));
    bytes.push(1);
    bytes.extend_from_slice(&marker.clear());
    bytes
}

/// Types whose secret is one of the probed, with the one.
const MADE_OF: &[(&str, &str)] = &[
    ("CodeKey", "PhoneCodeKeys"),
    ("StrangerKey", "ServerLogin"),
    ("BlindingInverse", "PendingToken"),
    ("Pending", "PendingTokens"),
    ("Rsa", "IssuerKey"),
    ("RowKeys", "SealKey"),
    ("Secrets", "RootSecret"),
    // Of a call that is over when its function returns.
    ("Keys", "SessionKey"),
    ("NonceRng", "SecretKey"),
    ("Transcript", "RootSecret"),
    // `Zeroizing` alone, as in these.
    ("Decrypted", "SecretBytes"),
    ("Inbound", "SecretBytes"),
    ("Offer", "SecretBytes"),
    ("Payload", "SecretBytes"),
    ("Said", "SecretBytes"),
    ("Plain", "SecretBytes"),
];

const CHILD: &str = "POSTERN_PROBE";

/// In the child: makes the value, finds it, drops it, and looks again.
#[test]
#[ignore = "runs in a process of its own, started by the test below"]
fn a_probe() {
    let Ok(name) = std::env::var(CHILD) else { return };
    let (name, is_leaky) = name.strip_suffix(" leaked").map_or((name.as_str(), false), |name| (name, true));
    let make = PROBES.iter().find(|probe| probe.0 == name).unwrap().1;
    let (value, markers) = make(Marker::drawn(name));
    overwrite_dead_stack();
    assert!(!markers.is_empty());
    for marker in &markers {
        assert!(!marker.find().is_empty(), "{name} is not found while it lives: this probe proves nothing");
    }
    if is_leaky {
        std::mem::forget(value);
    } else {
        drop(value);
    }
    overwrite_dead_stack();
    for marker in &markers {
        let found = marker.find();
        assert!(found.is_empty(), "LEFT BEHIND: {name} in {found:?}");
    }
}

fn probe(name: &str) -> Result<(), String> {
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_probe", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("running 1 test"), "{text}");
    if run.status.success() { Ok(()) } else { Err(text) }
}

#[test]
fn no_secret_is_in_memory_after_it_is_dropped() {
    let failed: Vec<String> = PROBES.iter().filter_map(|(name, _)| probe(name).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_secret_that_is_not_dropped_is_found() {
    for (name, _) in PROBES {
        let text = probe(&format!("{name} leaked")).expect_err(name);
        assert!(text.contains("LEFT BEHIND"), "{text}");
    }
}

/// Every type of the product that is said to be overwritten, or does it, by the source.
fn overwritten_types() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for part in ["protocol", "credentials", "store", "issuer", "relay", "client"] {
        rust_files(&root.join(part).join("src"), &mut files);
    }
    let mut types = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let promises = line.contains("ZeroizeOnDrop)]") || line.contains("eroised on drop");
            // The struct that a field is in stands above it, the one that a promise is about below.
            let holds = line.trim_start().starts_with(|c: char| c.is_alphabetic())
                && line.contains(": Zeroizing<")
                && line.ends_with(',');
            let about = match (promises, holds) {
                (true, _) => lines[n..].iter().take(8).find_map(|line| type_of(line)),
                (_, true) => {
                    lines[..n].iter().rev().take_while(|line| !line.starts_with('}')).find_map(|line| type_of(line))
                }
                _ => type_of(line).filter(|_| line.contains("(Zeroizing<")),
            };
            let of_drop = line.strip_prefix("impl Drop for ").map(|rest| rest.trim_end_matches(" {").to_owned());
            let of_drop = of_drop.filter(|_| {
                lines[n..].iter().take(8).any(|line| line.contains("zeroize") || line.contains("RSA_free"))
            });
            types.extend(about.into_iter().chain(of_drop));
        }
        for part in text.split("secret_bytes!(").skip(1) {
            let names = part.lines().filter(|line| !line.trim_start().starts_with("///")).take(2);
            types.extend(names.filter_map(|line| line.trim().split_once(',')).map(|(name, _)| name.to_owned()));
        }
    }
    types
}

fn type_of(line: &str) -> Option<String> {
    let rest = line.split_once("struct ")?.1;
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
    let is_item = line.starts_with("struct ") || line.starts_with("pub");
    (is_item && !name.is_empty()).then_some(name)
}

fn rust_files(directory: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            rust_files(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

#[test]
fn every_type_that_is_said_to_be_overwritten_is_probed() {
    let probed: BTreeSet<&str> = PROBES.iter().map(|probe| probe.0).collect();
    let known: BTreeSet<&str> = probed.iter().copied().chain(MADE_OF.iter().map(|(name, _)| *name)).collect();
    let types = overwritten_types();
    let forgotten: Vec<_> = types.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(forgotten.is_empty(), "not probed: {forgotten:?}");
    assert!(types.len() >= 25, "the source is not read: {types:?}");
    for (name, of) in MADE_OF {
        assert!(probed.contains(of), "{name} is made of {of}, which is not probed");
    }
    let gone: Vec<_> = MADE_OF.iter().filter(|(name, _)| !types.contains(*name)).collect();
    assert!(gone.is_empty(), "are no more: {gone:?}");
}
