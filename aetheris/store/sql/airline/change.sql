-- Writes one change into its world, with its receipt: all of it or none.
WITH booked AS (
    INSERT INTO airline.reservations (dataset, world, reservation_id, shown)
    SELECT %(dataset)s, %(world)s, %(reservation_id)s, %(reservation)s::json
    WHERE %(reservation)s::text IS NOT NULL
    ON CONFLICT (dataset, reservation_id, world) DO UPDATE SET shown = excluded.shown
), listed AS (
    INSERT INTO airline.user_reservations (dataset, world, user_id, reservation_id, position)
    SELECT %(dataset)s, %(world)s, %(listed_for)s, %(reservation_id)s, coalesce(max(position), 0) + 1
    FROM airline.user_reservations
    WHERE dataset = %(dataset)s AND user_id = %(listed_for)s AND world IN ('', %(world)s)
    HAVING %(listed_for)s::text IS NOT NULL
), paid AS (
    INSERT INTO airline.payment_methods (dataset, world, user_id, payment_id, position, shown)
    SELECT %(dataset)s, %(world)s, %(user_id)s, m.payment_id, m.position, m.shown::json
    FROM unnest(%(payment_ids)s::text[], %(positions)s::integer[], %(methods)s::text[]) AS m (payment_id, position, shown)
    ON CONFLICT (dataset, user_id, payment_id, world)
        DO UPDATE SET shown = excluded.shown, position = excluded.position
), handed AS (
    INSERT INTO airline.handovers (dataset, world, key, summary)
    SELECT %(dataset)s, %(world)s, %(key)s, %(handover)s
    WHERE %(handover)s::text IS NOT NULL
)
INSERT INTO airline.receipts (dataset, world, key, answer) VALUES (%(dataset)s, %(world)s, %(key)s, %(answer)s)
