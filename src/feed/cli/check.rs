//! `wxtokend-feed check`

use super::{
    BAD_CONFIGURATION, FAILURE, FeedCheckArgs, SUCCESS, UNAVAILABLE, credentials, print_faults,
    runtime,
};
use crate::config::FeedConfig;
use crate::feed::wanted;
use crate::found::LookFinding;
use crate::wish::TargetWish;
use crate::writer::Writer;
use std::time::Duration;
use tokio::time::timeout;
use wxtokend::config::Looks;
use wxtokend::fault::Fault;
use wxtokend::follow::{StreamEvent, StreamLine, follow};
use wxtokend::value::ValueName;

/// The longest wait for the daemon to tell what stands.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn run(args: &FeedCheckArgs) -> u8 {
    let config = match FeedConfig::load(&args.file, credentials().as_deref(), &Looks::patient()) {
        Ok(config) => config,
        Err(faults) => {
            print_faults(&faults);
            return BAD_CONFIGURATION;
        }
    };
    if !args.online {
        return SUCCESS;
    }
    let Ok(runtime) = runtime() else {
        return FAILURE;
    };
    let exit = runtime.block_on(look(&config));
    runtime.shutdown_background();
    exit
}

#[expect(clippy::print_stdout, reason = "the command's result")]
async fn look(config: &FeedConfig) -> u8 {
    let mut exit = SUCCESS;
    let standing = match standing(config).await {
        Ok(standing) => standing,
        Err(wrong) => {
            print_faults(&[Fault::of_file(&config.path, format!("`socket` {wrong}"))]);
            exit = UNAVAILABLE;
            Vec::new()
        }
    };
    for (target, place) in config.targets.iter().zip(&config.places) {
        let wishes: Vec<TargetWish> = standing
            .iter()
            .filter(|(value, _)| *value == target.value)
            .map(|(_, wish)| wish.clone())
            .collect();
        let writer = Writer::new(target);
        let found = match timeout(target.timeout, writer.look(&wishes)).await {
            Ok(Ok(found)) => found,
            Ok(Err(failure)) => {
                print_faults(&[place.fault(format!("{}: {failure}", target.name))]);
                exit = UNAVAILABLE;
                continue;
            }
            Err(_) => {
                let late = format!(
                    "{}: there is no answer within {:?}",
                    target.name, target.timeout
                );
                print_faults(&[place.fault(late)]);
                exit = UNAVAILABLE;
                continue;
            }
        };
        if wishes.is_empty() {
            println!("{} ({}): can be used", target.name, target.place);
        }
        for (wish, found) in wishes.iter().zip(found) {
            if let LookFinding::Wrong(wrong) = &found {
                print_faults(&[place.fault(format!("{}: {}: {wrong}", target.name, wish.account))]);
                exit = UNAVAILABLE;
            } else {
                println!(
                    "{} ({}): {} {}: {found}",
                    target.name, target.place, wish.account, target.value
                );
            }
        }
    }
    exit
}

/// The values that stand now, as the daemon says.
async fn standing(config: &FeedConfig) -> Result<Vec<(ValueName, TargetWish)>, String> {
    let mut events = follow(wanted(config));
    let mut standing = Vec::new();
    let socket = config.socket.display();
    let told = timeout(DAEMON_TIMEOUT, async {
        while let Some(event) = events.recv().await {
            match event {
                StreamEvent::Line(
                    StreamLine::Value {
                        subject,
                        appid,
                        holding,
                    },
                    _,
                ) => {
                    let wish = TargetWish {
                        account: subject.account,
                        appid,
                        holding,
                    };
                    standing.push((subject.value, wish));
                }
                StreamEvent::Line(StreamLine::Synced, _) => return Ok(()),
                StreamEvent::Line(..) => {}
                StreamEvent::Away(error) => {
                    return Err(format!(
                        "names `{socket}`, where no daemon answers: {error}"
                    ));
                }
            }
        }
        Ok(())
    });
    match told.await {
        Ok(Ok(())) if standing.is_empty() => Err(format!(
            "names `{socket}`, where there is no account that this user may read"
        )),
        Ok(told) => told.map(|()| standing),
        Err(_) => Err(format!("names `{socket}`, where no daemon answers in time")),
    }
}
