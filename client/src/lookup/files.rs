//! Files of the directory: fetched anonymously, each over a circuit of its own, believed only as far as the manifest pins them, and kept
//! while their build lasts.

use postern_credentials::directory::{Delta, DirectoryError, Filter, Fingerprints, Records};
use postern_protocol::directory::{
    FileRef, Manifest, Record as Sealed, delta_path, filter_path, fingerprints_path, records_path,
};
use postern_protocol::ids::Base64;
use postern_protocol::problem::ProblemKind;
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::channel::Request;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::profile::Record;

/// The most files of buckets that are kept during a look-up; 125 kB each, at most. A directory of 100,000 fits, so that an address book
/// fetches it once.
const MOST_KEPT: usize = 256;
/// The most that stay behind: every command reads the whole profile.
const MOST_LEFT: usize = 16;
/// The most accounts that a bucket can have: it has 1,024 on average at most.
const MOST_ACCOUNTS: usize = 8192;
/// What comes before the data: a proof of at most 64 hashes, and a digest.
const MOST_BEFORE: usize = 1 + 65 * 32;
/// The largest filter or delta that is fetched, bytes; a million accounts take 4.5 MB.
const MOST_FILE: usize = 16 << 20;

const NOT_OURS: Error =
    Error::Misbehaved("a file of its directory does not belong to the build that everybody is shown");

/// A file as served; its key says which.
#[derive(Clone, Serialize, Deserialize)]
struct FileRecord {
    build: u32,
    file: Base64,
}

impl Record for FileRecord {
    const KIND: &'static str = "directory-file";
}

/// Which files are kept, in the order in which they were fetched.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Kept {
    build: u32,
    names: Vec<String>,
}

impl Record for Kept {
    const KIND: &'static str = "directory-files";
}

impl Kept {
    /// Makes room for one more; what must go.
    fn make_room(&mut self, name: &str, build: u32) -> Vec<String> {
        if self.build != build {
            return std::mem::replace(self, Self { build, names: Vec::new() }).names;
        }
        self.names.retain(|other| other != name);
        if name.contains('/') { self.leave(MOST_KEPT.saturating_sub(1)) } else { Vec::new() }
    }

    /// Leaves so many files of buckets, the newest; what must go.
    fn leave(&mut self, most: usize) -> Vec<String> {
        let of_buckets = self.names.iter().filter(|name| name.contains('/')).count();
        let mut too_many = of_buckets.saturating_sub(most);
        self.names
            .extract_if(.., |name| {
                let goes = too_many > 0 && name.contains('/');
                too_many = too_many.saturating_sub(usize::from(goes));
                goes
            })
            .collect()
    }
}

/// The build is not served any more: look at the manifest again.
pub(super) fn is_over(error: &Error) -> bool {
    error.refusal() == Some(ProblemKind::NotFound)
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// The filter; `None` if this build has none.
    pub(super) async fn filter(&mut self, manifest: &Manifest) -> Result<Option<Filter>> {
        let Some(named) = manifest.filter else { return Ok(None) };
        let path = filter_path(manifest.build);
        self.file(manifest, "filter", &path, length(named), |file| Filter::read(manifest, file)).await.map(Some)
    }

    /// What is new in this build; `None` if that cannot be said.
    pub(super) async fn delta(&mut self, manifest: &Manifest) -> Result<Option<Delta>> {
        let Some(named) = manifest.delta else { return Ok(None) };
        let path = delta_path(manifest.build);
        self.file(manifest, "delta", &path, length(named), |file| Delta::read(manifest, file)).await.map(Some)
    }

    /// The fingerprints of a bucket.
    pub(super) async fn fingerprints(&mut self, manifest: &Manifest, bucket: u32) -> Result<Fingerprints> {
        let (name, path) = (format!("fingerprints/{bucket}"), fingerprints_path(manifest.build, bucket));
        let most = MOST_BEFORE + MOST_ACCOUNTS * 4;
        self.file(manifest, &name, &path, most, |file| Fingerprints::read(manifest, bucket, file)).await
    }

    /// The records of a bucket.
    pub(super) async fn records(&mut self, manifest: &Manifest, bucket: u32) -> Result<Records> {
        let (name, path) = (format!("records/{bucket}"), records_path(manifest.build, bucket));
        let most = MOST_BEFORE + MOST_ACCOUNTS * Sealed::SEALED_LEN;
        self.file(manifest, &name, &path, most, |file| Records::read(manifest, bucket, file)).await
    }

    /// A file of this build: the one at hand, or fetched.
    async fn file<T>(
        &mut self,
        manifest: &Manifest,
        name: &str,
        path: &str,
        most: usize,
        read: impl Fn(&[u8]) -> std::result::Result<T, DirectoryError>,
    ) -> Result<T> {
        if let Some(known) = self.profile.get::<FileRecord>(name)?.filter(|known| known.build == manifest.build)
            && let Ok(file) = read(&known.file.0)
        {
            return Ok(file);
        }
        let request = Request::get(&self.pins()?.issuer_url, path)?.max_answer(most);
        let file = self.send_anonymously(&request).await?.success()?;
        let out = read(&file).map_err(|_| NOT_OURS)?;
        self.keep(name, manifest.build, file)?;
        Ok(out)
    }

    /// Erases the files of buckets but a few.
    pub(super) fn drop_most_files(&mut self) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| {
            let Some(mut kept) = t.get::<Kept>("")? else { return Ok(()) };
            let gone = kept.leave(MOST_LEFT);
            for name in &gone {
                t.delete::<FileRecord>(name)?;
            }
            if gone.is_empty() { Ok(()) } else { t.put("", &kept) }
        })
    }

    /// Keeps a file; those of other builds are erased, and of the buckets' the oldest beyond their number.
    fn keep(&mut self, name: &str, build: u32, file: Vec<u8>) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| {
            let mut kept = t.get::<Kept>("")?.unwrap_or_default();
            for gone in kept.make_room(name, build) {
                t.delete::<FileRecord>(&gone)?;
            }
            kept.names.push(name.to_owned());
            t.put("", &kept)?;
            t.put(name, &FileRecord { build, file: Base64(file) })
        })
    }
}

fn length(named: FileRef) -> usize {
    usize::try_from(named.length).unwrap_or(usize::MAX).min(MOST_FILE)
}
