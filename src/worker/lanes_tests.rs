//! The lanes by themselves: turns, bounds of memory, and when there is something to claim.

use super::*;

fn item(endpoint_id: &str) -> Outgoing {
    Outgoing {
        event_id: "evt_1".to_owned(),
        event_created_at: DateTime::UNIX_EPOCH,
        endpoint_id: endpoint_id.to_owned(),
        merchant_id: "m_1".to_owned(),
        livemode: false,
        body: "{}".into(),
        lease_token: uuid::Uuid::nil(),
        lease_until: DateTime::UNIX_EPOCH,
        attempt: 1,
        again: false,
    }
}

fn started(lanes: &mut Lanes) -> Vec<String> {
    std::iter::from_fn(|| lanes.start_next()).map(|item| item.endpoint_id).collect()
}

const QUICK: Showing = Showing::Answered(Duration::from_millis(1));

#[test]
fn an_endpoint_takes_its_own_places_and_turns_go_round() {
    let mut lanes = Lanes::new(6, 2);
    for endpoint_id in ["a", "a", "a", "a", "b", "c", "c"] {
        assert!(lanes.push(item(endpoint_id)).is_none());
    }
    assert_eq!(started(&mut lanes), ["a", "b", "c", "a", "c"]);
    assert_eq!((lanes.in_flight(), lanes.waiting()), (5, 2));
    lanes.ended("a", QUICK);
    assert_eq!(started(&mut lanes), ["a"]);
    lanes.ended("c", QUICK);
    assert!(started(&mut lanes).is_empty());
}

#[test]
fn a_silent_endpoint_has_one_place_until_it_answers() {
    let mut lanes = Lanes::new(10, 3);
    for _ in 0..9 {
        assert!(lanes.push(item("a")).is_none());
    }
    assert_eq!(started(&mut lanes).len(), 3);
    for _ in 0..3 {
        lanes.ended("a", Showing::Silent);
    }
    assert_eq!(started(&mut lanes).len(), 1);
    assert_eq!(lanes.room().places, [("a".to_owned(), 0)]);
    lanes.ended("a", QUICK);
    assert_eq!(started(&mut lanes).len(), 3);
}

#[test]
fn a_resting_endpoint_starts_nothing_until_it_has_rested() {
    let mut lanes = Lanes::new(10, 3);
    for endpoint_id in ["a", "a", "a", "a", "b"] {
        assert!(lanes.push(item(endpoint_id)).is_none());
    }
    assert_eq!(started(&mut lanes), ["a", "b", "a", "a"]);
    let until = DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(5);
    for _ in 0..2 {
        lanes.ended("a", Showing::Resting { until });
        lanes.put_back(item("a"));
    }
    lanes.ended("a", QUICK);
    assert!(started(&mut lanes).is_empty());
    assert_eq!(lanes.next_rested_at(), Some(until));
    let places: HashMap<_, _> = lanes.room().places.into_iter().collect();
    assert_eq!(places["a"], 0, "nothing is claimed for it");
    assert!(!lanes.wake(until - chrono::TimeDelta::milliseconds(1)) && started(&mut lanes).is_empty());
    assert!(lanes.wake(until));
    assert_eq!((started(&mut lanes).len(), lanes.waiting(), lanes.next_rested_at()), (3, 0, None));
}

#[test]
fn an_endpoint_that_wants_one_at_a_time_gets_one_at_a_time() {
    let mut lanes = Lanes::new(10, 3);
    for _ in 0..4 {
        assert!(lanes.push(item("a")).is_none());
    }
    assert_eq!(started(&mut lanes).len(), 3);
    for _ in 0..2 {
        lanes.ended("a", Showing::Crowded { places: 1 });
        lanes.put_back(item("a"));
    }
    assert!(started(&mut lanes).is_empty());
    for _ in 0..3 {
        lanes.ended("a", QUICK);
        assert_eq!(started(&mut lanes).len(), 1);
    }
    assert_eq!((lanes.waiting(), lanes.in_flight_to("a")), (0, 1));
    assert_eq!(lanes.room().places, [("a".to_owned(), 0)]);
}

#[test]
fn memory_is_bounded_for_each_endpoint() {
    let mut lanes = Lanes::new(10, 3);
    for _ in 0..LANE_WAITING_MAX {
        assert!(lanes.push(item("a")).is_none());
    }
    assert!(lanes.push(item("a")).is_some());
    assert!(lanes.push(item("b")).is_none());
    assert_eq!(lanes.take_waiting().len(), LANE_WAITING_MAX + 1);
    assert_eq!(lanes.waiting(), 0);
    assert!(started(&mut lanes).is_empty());
}

#[test]
fn large_bodies_wait_in_smaller_numbers_and_are_claimed_so() {
    let large = |endpoint_id| Outgoing { body: "x".repeat(100 * 1024).into(), ..item(endpoint_id) };
    let mut lanes = Lanes::new(10, 3);
    let taken = (0..LANE_WAITING_MAX).take_while(|_| lanes.push(large("a")).is_none()).count();
    assert_eq!(taken, LANE_WAITING_BYTES_MAX / (100 * 1024));
    assert!(lanes.push(large("b")).is_none(), "one endpoint leaves room for another");
    assert_eq!(started(&mut lanes).len(), 4);
    assert_eq!(lanes.take_waiting().len(), taken - 3);
    assert!(lanes.ended("a", QUICK), "one was refused a place");
    let places: HashMap<_, _> = lanes.room().places.into_iter().collect();
    assert_eq!(places["a"], 8, "ten of these fill half of what may wait, two are under way");
    let endpoints: Vec<String> = (0..LANE_WAITING_MAX).map(|number| format!("e{number}")).collect();
    let all = endpoints.iter().filter(|id| lanes.push(large(id)).is_none()).count();
    assert_eq!((all, lanes.take_waiting().len()), (WAITING_BYTES_MAX / (100 * 1024), all));
    assert_eq!((lanes.waiting(), lanes.waiting_bytes), (0, 0));
}

#[test]
fn a_claim_that_filled_its_places_is_followed_by_another() {
    let mut lanes = Lanes::new(8, 2);
    let room = lanes.room();
    assert_eq!((room.total, room.usual), (48, 2));
    let left_over = lanes.claimed(&room, vec![item("a"), item("a"), item("b")]);
    assert!(left_over.is_empty());
    assert_eq!(started(&mut lanes).len(), 3);
    assert!(!lanes.ended("b", QUICK), "b had fewer rows than places");
    assert!(lanes.ended("a", QUICK), "a may have more");
    // It answers within a millisecond, so much more is claimed than it has places.
    let places: HashMap<_, _> = lanes.room().places.into_iter().collect();
    assert_eq!(places["a"], 255);
}

#[test]
fn an_endpoint_whose_share_was_cut_off_is_claimed_for_again_though_many_others_hang() {
    let mut lanes = Lanes::new(16, 4);
    let hanging: Vec<String> = (0..10).map(|number| format!("h{number}")).collect();
    for id in &hanging {
        assert!(lanes.push(item(id)).is_none());
    }
    assert!(lanes.push(item("q")).is_none());
    assert_eq!(started(&mut lanes).len(), 11);
    lanes.ended("q", QUICK);
    let room = lanes.room();
    let places: HashMap<_, _> = room.places.iter().cloned().collect();
    assert!(room.total < places["q"], "{room:?}");
    let total = usize::try_from(room.total).expect("small");
    assert!(lanes.claimed(&room, vec![item("q"); total]).is_empty());
    assert!(started(&mut lanes).iter().all(|id| id == "q"));
    assert!(lanes.ended("q", QUICK), "there may be more, and nothing else would ask for it before the poll");
}

#[test]
fn what_waits_for_hanging_endpoints_keeps_no_other_from_starting() {
    let mut lanes = Lanes::new(100, 2);
    let hanging: Vec<String> = (0..WAITING_MAX / LANE_WAITING_MAX).map(|number| format!("h{number}")).collect();
    for id in &hanging {
        assert!((0..LANE_WAITING_MAX).all(|_| lanes.push(item(id)).is_none()));
    }
    assert_eq!(started(&mut lanes).len(), 2 * hanging.len());
    for id in &hanging {
        assert!((0..2).all(|_| lanes.push(item(id)).is_none()) && lanes.push(item(id)).is_some());
    }
    assert!((0..2).all(|_| lanes.push(item("q")).is_none()), "they can start");
    assert!(lanes.push(item("q")).is_some(), "this one would wait");
    assert_eq!(started(&mut lanes), ["q", "q"]);
    let places: HashMap<_, _> = lanes.room().places.into_iter().collect();
    lanes.ended("q", QUICK);
    assert_eq!((places["q"], places["h0"]), (0, 0));
    let places: HashMap<_, _> = lanes.room().places.into_iter().collect();
    assert_eq!(places["q"], 1, "nothing is claimed ahead while so much waits");
}

#[test]
fn a_claim_that_ran_out_of_places_goes_on_where_it_stopped() {
    let mut lanes = Lanes::new(8, 2);
    let room = ClaimRoom { total: 3, usual: 2, after_endpoint: "b".to_owned(), ..lanes.room() };
    lanes.claimed(&room, vec![item("c"), item("c"), item("a")]);
    assert_eq!(lanes.room().after_endpoint, "a");
    assert!(lanes.take_expired(DateTime::UNIX_EPOCH).is_empty());
}
