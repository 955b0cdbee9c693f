SELECT format('SELECT * FROM dashie.track(%L, %L, %L) \g /dev/null', user_id, session_id, events) FROM peer.batch ORDER BY batch;
