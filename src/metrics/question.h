/*
 * question.h
 *		A question about a stretch of days: the set of users active on each.
 */
#ifndef DASHIE_QUESTION_H
#define DASHIE_QUESTION_H

#include "postgres.h"

#include "fmgr.h"
#include "metrics/engine.h"

/* The longest stretch of days that a question looks at: ten years. */
#define MAX_WINDOW_DAYS 3660

typedef struct Question
{
	Metrics *metrics;
	DateADT from;
	DateADT to;
	bool *compute;		/* [day - from]: to be read from the rows */
	bool *known;		/* [day - from]: neither closed by retention nor without a source */
	UserSet **settled;	/* [day - from]: read from the rows already */
	UserSet *anonymous; /* NULL until asked for */
	bool raw;			/* set by who deals with anonymous users itself: sets come as they are */
	int lost;			/* days that retention closed before they were computed */
} Question;

/* A day and its set without anonymous users, which is the visitor's to keep only until it returns;
 * NULL: nothing is known of the day. */
typedef void (*DayVisitor)(void *arg, DateADT day, const UserSet *active);

/* 22023 unless the days are a range, of which the arguments are named. */
extern void
question_check_range(const char *from_name, DateADT from, const char *to_name, DateADT to);

/* Arguments "from" and "to", the first two of a function; 22023 unless they are a range. */
extern void question_range(FunctionCallInfo fcinfo, DateADT *from, DateADT *to);

/* A run that writes nothing, for days up to "to"; 22023 naming the argument if that is to come. */
extern Metrics *question_open(DashieGuard *guard, Oid owner_rel, const char *argument, DateADT to);

extern Question *question_begin(Metrics *metrics, DateADT from, DateADT to);

/* The anonymous users; of a run that asks no question, in the current memory context. */
extern UserSet *metrics_anonymous(Metrics *metrics);
extern const UserSet *question_anonymous(Question *question);

/* Brings the countries of all users up to date, in memory. */
extern void question_settle_countries(Question *question);

/* Visits the days in their order. */
extern void question_each_day(Question *question, DayVisitor visit, void *arg);

/* A NOTICE if days are lost. */
extern void question_tell_lost(const Question *question);

#endif /* DASHIE_QUESTION_H */
