//! What a SOCKS5 proxy shows of itself, without asking it for anything that would leave it.

use std::time::Duration;

use rand_core::CryptoRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::route::Isolation;
use crate::error::{Error, Result};

/// What answers where the proxy should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// It takes any user name and knows Tor's own command. It is Tor, or pretends to be.
    Tor,
    /// It takes any user name; of Tor it knows nothing.
    Plain,
    /// It takes no user name, or not ours: requests cannot be kept apart, and fail.
    NoUserNames,
    /// It is no SOCKS5 proxy.
    NotSocks,
}

/// SOCKS version 5 (RFC 1928).
const VERSION: u8 = 5;
/// The one method that is offered: user name and password (RFC 1929).
const USER_NAMES: u8 = 2;
/// Tor's command to look a name up (socks-extensions.txt of Tor, §2): no other proxy has it.
const RESOLVE: u8 = 0xf0;
/// An address that belongs to nobody (RFC 5737). Asked for an address, Tor gives it back and asks nobody.
const NOBODYS: [u8; 4] = [192, 0, 2, 1];

/// Looks at a proxy, `socks5h://host:port`, as a request of ours would meet it.
///
/// # Errors
/// [`Error::Network`] if nothing answers there within `patience`.
pub async fn look_at_proxy(rng: &mut impl CryptoRng, proxy: &str, patience: Duration) -> Result<Proxy> {
    let address = proxy.trim_start_matches("socks5h://");
    let network = |reason: String| Error::Network { host: format!("the proxy at {address}"), reason };
    let isolation = Isolation::fresh(rng);
    let look = async {
        let mut stream = TcpStream::connect(address).await.map_err(|error| network(error.to_string()))?;
        // Whoever hangs up in the middle does not speak it either.
        Ok(converse(&mut stream, &isolation).await.unwrap_or(Proxy::NotSocks))
    };
    match tokio::time::timeout(patience, look).await {
        Ok(found) => found,
        Err(_) => Err(network("it took too long".to_owned())),
    }
}

async fn converse(stream: &mut TcpStream, isolation: &Isolation) -> std::io::Result<Proxy> {
    let mut answer = [0; 2];
    stream.write_all(&[VERSION, 1, USER_NAMES]).await?;
    stream.read_exact(&mut answer).await?;
    match answer {
        [VERSION, USER_NAMES] => {}
        [VERSION, _] => return Ok(Proxy::NoUserNames),
        _ => return Ok(Proxy::NotSocks),
    }
    let (user, password) = isolation.credentials();
    let mut login = vec![1];
    for part in [user, password] {
        login.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        login.extend_from_slice(part);
    }
    stream.write_all(&login).await?;
    if stream.read_exact(&mut answer).await.is_err() || answer != [1, 0] {
        return Ok(Proxy::NoUserNames);
    }
    let [a, b, c, d] = NOBODYS;
    stream.write_all(&[VERSION, RESOLVE, 0, 1, a, b, c, d, 0, 0]).await?;
    let mut reply = [0; 8];
    let told = stream.read_exact(&mut reply).await.is_ok();
    Ok(if told && reply == [VERSION, 0, 0, 1, a, b, c, d] { Proxy::Tor } else { Proxy::Plain })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use tokio::net::TcpListener;

    use super::*;

    /// What is found of a proxy that gives these answers, one to each thing it is told, and hangs up.
    async fn found(answers: &'static [&'static [u8]]) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("socks5h://{}", listener.local_addr().unwrap());
        let play = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut buffer = [0; 512];
                assert!(stream.read(&mut buffer).await.unwrap() > 0, "it asks");
                stream.write_all(answer).await.unwrap();
            }
        };
        let rng = &mut StdRng::seed_from_u64(1);
        tokio::join!(look_at_proxy(rng, &proxy, Duration::from_secs(10)), play).0.unwrap()
    }

    #[tokio::test]
    async fn tor_is_told_from_other_proxies_and_these_from_what_is_none() {
        let tor = [5, 0, 0, 1, 192, 0, 2, 1, 0, 0];
        let no_such_command = [5, 7, 0, 1, 0, 0, 0, 0, 0, 0];
        // Says yes to whatever it is told, and connects somewhere.
        let yes = [5, 0, 0, 1, 10, 0, 0, 1, 0, 80];
        let answers: [(Vec<Vec<u8>>, Proxy); 8] = [
            (vec![vec![5, 2], vec![1, 0], tor.to_vec()], Proxy::Tor),
            (vec![vec![5, 2], vec![1, 0], no_such_command.to_vec()], Proxy::Plain),
            (vec![vec![5, 2], vec![1, 0], yes.to_vec()], Proxy::Plain),
            (vec![vec![5, 2], vec![1, 0]], Proxy::Plain),
            (vec![vec![5, 2], vec![1, 1]], Proxy::NoUserNames),
            (vec![vec![5, 0]], Proxy::NoUserNames),
            (vec![vec![5, 255]], Proxy::NoUserNames),
            (vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], Proxy::NotSocks),
        ];
        for (answers, expected) in answers {
            let told: Vec<&'static [u8]> = answers.iter().map(|answer| &*answer.clone().leak()).collect();
            assert_eq!(found(told.leak()).await, expected, "{answers:?}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_is_a_network_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("socks5h://{}", listener.local_addr().unwrap());
        drop(listener);
        let looked = look_at_proxy(&mut StdRng::seed_from_u64(1), &proxy, Duration::from_secs(10)).await;
        assert!(matches!(looked, Err(Error::Network { host, .. }) if host.contains("the proxy")));
    }
}
