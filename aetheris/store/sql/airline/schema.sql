-- The airline's own system, as the example's tools know it: not a part of Aetheris's store.
--
-- A data set is what every run starts from, and is named by its digest. A run works in a
-- world of its own over it: rows of world '' are the data set's, rows of a named world lie
-- over them and hide them. So opening a world costs nothing and no run sees another's booking.
--
-- `shown` is the record as the desk shows it, text kept to the byte (json, not jsonb: order
-- of keys counts). Every other column that speaks of it is generated from it, so that the
-- two can't drift apart. The tables have no tenant: the airline is the outside world.

CREATE SCHEMA IF NOT EXISTS airline;

CREATE TABLE IF NOT EXISTS airline.datasets (
    dataset    text COLLATE "C" PRIMARY KEY,
    desk       json NOT NULL,
    loaded_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS airline.flights (
    dataset        text COLLATE "C" NOT NULL REFERENCES airline.datasets,
    flight_number  text COLLATE "C" NOT NULL,
    position       integer NOT NULL,
    shown          json NOT NULL,
    origin         text COLLATE "C" NOT NULL GENERATED ALWAYS AS (shown ->> 'origin') STORED,
    destination    text COLLATE "C" NOT NULL GENERATED ALWAYS AS (shown ->> 'destination') STORED,
    departs        text COLLATE "C" NOT NULL GENERATED ALWAYS AS (shown ->> 'scheduled_departure_time_est') STORED,
    arrives        text COLLATE "C" NOT NULL GENERATED ALWAYS AS (shown ->> 'scheduled_arrival_time_est') STORED,
    PRIMARY KEY (dataset, flight_number)
);
CREATE INDEX IF NOT EXISTS flights_route ON airline.flights (dataset, origin, destination);

CREATE TABLE IF NOT EXISTS airline.flight_days (
    dataset              text COLLATE "C" NOT NULL,
    flight_number        text COLLATE "C" NOT NULL,
    day                  text COLLATE "C" NOT NULL,
    shown                json NOT NULL,
    status               text COLLATE "C" NOT NULL GENERATED ALWAYS AS (shown ->> 'status') STORED,
    basic_economy_seats  integer GENERATED ALWAYS AS ((shown -> 'available_seats' ->> 'basic_economy')::integer) STORED,
    economy_seats        integer GENERATED ALWAYS AS ((shown -> 'available_seats' ->> 'economy')::integer) STORED,
    business_seats       integer GENERATED ALWAYS AS ((shown -> 'available_seats' ->> 'business')::integer) STORED,
    basic_economy_price  numeric GENERATED ALWAYS AS ((shown -> 'prices' ->> 'basic_economy')::numeric) STORED,
    economy_price        numeric GENERATED ALWAYS AS ((shown -> 'prices' ->> 'economy')::numeric) STORED,
    business_price       numeric GENERATED ALWAYS AS ((shown -> 'prices' ->> 'business')::numeric) STORED,
    PRIMARY KEY (dataset, flight_number, day),
    FOREIGN KEY (dataset, flight_number) REFERENCES airline.flights
);

-- The profile; payment methods and reservations have tables of their own, and an empty place in `shown`.
CREATE TABLE IF NOT EXISTS airline.users (
    dataset     text COLLATE "C" NOT NULL REFERENCES airline.datasets,
    user_id     text COLLATE "C" NOT NULL,
    shown       json NOT NULL,
    membership  text COLLATE "C" GENERATED ALWAYS AS (shown ->> 'membership') STORED,
    PRIMARY KEY (dataset, user_id)
);

-- In a named world, `shown` null says: used up.
CREATE TABLE IF NOT EXISTS airline.payment_methods (
    dataset     text COLLATE "C" NOT NULL,
    world       text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    payment_id  text COLLATE "C" NOT NULL,
    position    integer NOT NULL,
    shown       json CHECK (world <> '' OR shown IS NOT NULL),
    source      text COLLATE "C" GENERATED ALWAYS AS (shown ->> 'source') STORED,
    amount      numeric GENERATED ALWAYS AS ((shown ->> 'amount')::numeric) STORED,
    PRIMARY KEY (dataset, user_id, payment_id, world),
    FOREIGN KEY (dataset, user_id) REFERENCES airline.users
);

CREATE TABLE IF NOT EXISTS airline.reservations (
    dataset         text COLLATE "C" NOT NULL REFERENCES airline.datasets,
    world           text COLLATE "C" NOT NULL,
    reservation_id  text COLLATE "C" NOT NULL,
    shown           json NOT NULL,
    user_id         text COLLATE "C" NOT NULL GENERATED ALWAYS AS (shown ->> 'user_id') STORED,
    cabin           text COLLATE "C" GENERATED ALWAYS AS (shown ->> 'cabin') STORED,
    status          text COLLATE "C" GENERATED ALWAYS AS (shown ->> 'status') STORED,
    PRIMARY KEY (dataset, reservation_id, world),
    FOREIGN KEY (dataset, user_id) REFERENCES airline.users
);

-- Which reservations a profile lists, in its order.
CREATE TABLE IF NOT EXISTS airline.user_reservations (
    dataset         text COLLATE "C" NOT NULL,
    world           text COLLATE "C" NOT NULL,
    user_id         text COLLATE "C" NOT NULL,
    reservation_id  text COLLATE "C" NOT NULL,
    position        integer NOT NULL,
    PRIMARY KEY (dataset, user_id, reservation_id, world),
    FOREIGN KEY (dataset, user_id) REFERENCES airline.users
);

CREATE TABLE IF NOT EXISTS airline.handovers (
    dataset     text COLLATE "C" NOT NULL REFERENCES airline.datasets,
    world       text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    summary     text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dataset, world, key)
);

-- What was done under which key: a change that comes a second time is answered, not done again.
CREATE TABLE IF NOT EXISTS airline.receipts (
    dataset     text COLLATE "C" NOT NULL REFERENCES airline.datasets,
    world       text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    answer      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dataset, world, key)
);

GRANT USAGE ON SCHEMA airline TO aetheris_airline;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA airline TO aetheris_airline;
GRANT UPDATE ON airline.payment_methods, airline.reservations, airline.user_reservations TO aetheris_airline;
